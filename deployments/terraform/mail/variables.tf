variable "identity" {
  description = "The domain, or the one address, that mails to the ads' managers come from. A domain is verified by its DKIM records (output dkim_tokens)."
  type        = string
}

variable "configuration_set" {
  description = "Name of the configuration set."
  type        = string
  default     = "restock"
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
