variable "topic_arn" {
  description = "The topic, of module messaging."
  type        = string
}

variable "consumers" {
  description = "The queues, output consumers of module messaging."
  type = map(object({
    queue_arn       = string
    dead_arn        = string
    undelivered_arn = string
  }))
}

variable "mail_arns" {
  description = "What the ads consumer may send with, output arns of module mail."
  type        = list(string)
}

variable "kms_key_arn" {
  description = "The key of topic and queues, where they have one of yours."
  type        = string
  default     = null
}

variable "consumer_runtime" {
  description = "ecs, or lambda where the consumers and the factory's callback are functions: who may take their roles."
  type        = string
  default     = "ecs"
  validation {
    condition     = contains(["ecs", "lambda"], var.consumer_runtime)
    error_message = "It is ecs or lambda."
  }
}

variable "operator_principals" {
  description = "ARNs of who may take the operator's role: for restock status, doctor and dlq. None: there is no such role."
  type        = list(string)
  default     = []
}

variable "name_prefix" {
  description = "Names of the roles begin with it."
  type        = string
  default     = "restock"
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
