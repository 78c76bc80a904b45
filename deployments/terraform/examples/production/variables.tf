variable "region" {
  description = "Where everything is."
  type        = string
  default     = "ap-northeast-2"
}

variable "running" {
  description = "False for the first apply: see module compute."
  type        = bool
  default     = true
}

variable "consumer_runtime" {
  description = "ecs or lambda."
  type        = string
  default     = "ecs"
}

variable "lambda_package" {
  description = "The file function.zip, where consumer_runtime is lambda."
  type        = string
  default     = null
}

variable "throughput_scope" {
  description = "Topic or MessageGroup: see module messaging."
  type        = string
  default     = "Topic"
}

variable "vpc_id" {
  description = "A VPC that is there."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets of parts and databases, in two zones or more, with a way out."
  type        = list(string)
}

variable "public_subnet_ids" {
  description = "Subnets of the load balancer, in two zones or more."
  type        = list(string)
}

variable "certificate_arn" {
  description = "The certificate of the API's name."
  type        = string
}

variable "image" {
  description = "The image of make image, in a registry."
  type        = string
}

variable "image_repository_arn" {
  description = "The ECR repository of the image, null where it is in another registry."
  type        = string
  default     = null
}

variable "postgres_version" {
  description = "See module database."
  type        = string
  default     = "17"
}

variable "instance_class" {
  description = "See module database."
  type        = string
  default     = "db.m7g.large"
}

variable "replica" {
  description = "See module database."
  type        = bool
  default     = false
}

variable "owner_secret_arns" {
  description = "With replica: see module database."
  type        = map(string)
  default     = {}
}

variable "deletion_protection" {
  description = "Databases, their secrets and the load balancer cannot be destroyed. False is for tests."
  type        = bool
  default     = true
}

variable "mail_identity" {
  description = "The domain or address that mails come from."
  type        = string
}

variable "operator_principals" {
  description = "ARNs of who may look and redrive."
  type        = list(string)
  default     = []
}

variable "public_url" {
  description = "Where the factory reaches the API."
  type        = string
}

variable "default_sku" {
  description = "What a checkout with an empty body buys."
  type        = string
  default     = null
}

variable "factory_api" {
  description = "The factory."
  type        = string
}

variable "ads_from" {
  description = "Sender of the mails to the ads' managers."
  type        = string
}

variable "marketing_webhook_url" {
  description = "Where the marketing system takes webhooks."
  type        = string
}

variable "marketing_allow" {
  description = "Addresses that the webhook's host may have though they are not global."
  type        = list(string)
  default     = []
}

variable "alarm_topic_arn" {
  description = "The standard SNS topic that is told of alarms."
  type        = string
}
