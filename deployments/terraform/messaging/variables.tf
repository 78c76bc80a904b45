variable "vip_threshold" {
  description = "Units in one order that make its customer VIP: the same as RESTOCK_VIP_THRESHOLD of the vip consumer."
  type        = number
  default     = 100
  validation {
    condition     = var.vip_threshold >= 1 && floor(var.vip_threshold) == var.vip_threshold
    error_message = "It is a whole number of 1 or more."
  }
}

variable "throughput_scope" {
  description = "Topic: 3,000 messages or 20 MB a second for the whole topic, deduplicated across groups. MessageGroup: up to 30,000 a second, dependent on the region, deduplicated within a group; it cannot be taken back."
  type        = string
  default     = "Topic"
  validation {
    condition     = contains(["Topic", "MessageGroup"], var.throughput_scope)
    error_message = "It is Topic or MessageGroup."
  }
}

variable "visibility_seconds" {
  description = "The queues' visibility timeout. Null: what the worker asks for, 60 s. For Lambda consumers six times their time-out: 180 to 360."
  type        = number
  default     = null
  validation {
    condition     = var.visibility_seconds == null ? true : var.visibility_seconds >= 30 && var.visibility_seconds <= 43200
    error_message = "It is 30 to 43200."
  }
}

variable "high_throughput_queues" {
  description = "Queues in high-throughput mode: deduplicated and limited by message group rather than 300 calls a second for the queue. The price of a request is the same."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "Customer-managed key for topic and queues, whose policy lets sns.amazonaws.com use it. Null: the queues are encrypted with SQS's own key."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
