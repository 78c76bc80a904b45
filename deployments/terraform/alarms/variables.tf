variable "alarm_topic_arns" {
  description = "SNS topics that are told of each alarm and of its end: standard ones, which people or a pager subscribe to."
  type        = list(string)
  validation {
    condition     = length(var.alarm_topic_arns) > 0
    error_message = "An alarm that tells nobody is none."
  }
}

variable "status_log_group" {
  description = "Log group of restock status --watch --json, output of module compute."
  type        = string
}

variable "consumers" {
  description = "The queues, output consumers of module messaging."
  type        = map(object({ queue_name = string, dead_name = string, undelivered_name = string }))
}

variable "databases" {
  description = "Output databases of module database."
  type        = map(object({ identifier = string }))
}

variable "wal_budget_bytes" {
  description = "Output wal_budget_bytes of module database."
  type        = number
}

variable "storage_bytes" {
  description = "Output storage_bytes of module database."
  type        = number
}

variable "lag_seconds" {
  description = "How long a committed event may wait to be published."
  type        = number
  default     = 60
}

variable "slot_left_seconds" {
  description = "Time until a slot is lost from which on it is an alarm."
  type        = number
  default     = 3600
}

variable "queue_age_seconds" {
  description = "How long an event may wait in a queue."
  type        = number
  default     = 300
}

variable "disk_free_percent" {
  description = "Part of a database's first disk that should be free."
  type        = number
  default     = 20
}

variable "namespace" {
  description = "CloudWatch namespace of the metrics that are made of the log. Eight of them, at CloudWatch's price for custom metrics."
  type        = string
  default     = "Restock"
}

variable "name_prefix" {
  description = "Names begin with it."
  type        = string
  default     = "restock"
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
