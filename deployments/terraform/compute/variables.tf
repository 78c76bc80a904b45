variable "region" {
  description = "Where everything is."
  type        = string
}

variable "running" {
  description = "False: everything is made but the services and functions, so that migrate can be run and the secrets be filled first."
  type        = bool
  default     = true
}

variable "consumer_runtime" {
  description = "ecs: each consumer is a service. lambda: each consumer is a function, and so is the factory's callback, at an address of its own."
  type        = string
  default     = "ecs"
  validation {
    condition     = contains(["ecs", "lambda"], var.consumer_runtime)
    error_message = "It is ecs or lambda."
  }
}

variable "vpc_id" {
  description = "Where the parts are."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the parts, with a way out to AWS, the factory and the marketing system."
  type        = list(string)
}

variable "public_subnet_ids" {
  description = "Public subnets of the load balancer, in two availability zones or more."
  type        = list(string)
}

variable "allowed_cidrs" {
  description = "Who may reach the API."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "certificate_arn" {
  description = "The certificate of the API's name, of ACM."
  type        = string
}

variable "image" {
  description = "The image of make image, in a registry, best by its digest."
  type        = string
}

variable "image_repository_arn" {
  description = "The ECR repository of the image. Null: a registry that asks for no right."
  type        = string
  default     = null
}

variable "cpu_architecture" {
  description = "What image and function package are built for."
  type        = string
  default     = "X86_64"
  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "It is X86_64 or ARM64."
  }
}

variable "sizes" {
  description = "Processor (1024 is one) and memory (MiB) of a task by part, default for those that are not named. A relay needs 64 MiB beside twice its window of 64 MiB; one processor publishes what docs/relay.md says."
  type        = map(object({ cpu = number, memory = number }))
  default = {
    default         = { cpu = 256, memory = 512 }
    api             = { cpu = 1024, memory = 2048 }
    relay-store     = { cpu = 1024, memory = 2048 }
    relay-customers = { cpu = 512, memory = 1024 }
  }
  validation {
    condition     = contains(keys(var.sizes), "default")
    error_message = "It needs a member default."
  }
}

variable "api_tasks" {
  description = "API processes: how many at least and at most, and the share of their processor that is aimed at."
  type        = object({ min = number, max = number, processor_percent = number })
  default     = { min = 2, max = 10, processor_percent = 60 }
  validation {
    condition     = var.api_tasks.min >= 1 && var.api_tasks.max >= var.api_tasks.min
    error_message = "max is min or more, min is 1 or more."
  }
}

variable "consumer_tasks" {
  description = "Tasks of each consumer: how many at least and at most, the messages that may wait for each, and the age of the oldest from which on one is added. A message group is worked on by one task at a time."
  type        = object({ min = number, max = number, depth_each = number, age_seconds = number })
  default     = { min = 2, max = 10, depth_each = 200, age_seconds = 60 }
  validation {
    condition     = var.consumer_tasks.min >= 1 && var.consumer_tasks.max >= var.consumer_tasks.min
    error_message = "max is min or more, min is 1 or more."
  }
}

variable "lambda_package" {
  description = "The file function.zip with restock-lambda as bootstrap, where consumer_runtime is lambda."
  type        = string
  default     = null
}

variable "lambda_concurrency" {
  description = "Invocations of a consumer's function at once. Each takes connections to its database (RESTOCK_MAX_CONNS, 2)."
  type        = number
  default     = 10
  validation {
    condition     = var.lambda_concurrency >= 2 && var.lambda_concurrency <= 1000
    error_message = "Lambda takes 2 to 1000."
  }
}

variable "callback_concurrency" {
  description = "Invocations of the callback's function at once, each with up to three connections to the store. They are reserved, and Lambda keeps 100 of the account's for all others: an account that has no more, as a new one, sets -1, which bounds nothing but the account."
  type        = number
  default     = 10
  validation {
    condition     = var.callback_concurrency == -1 || var.callback_concurrency >= 1 && var.callback_concurrency <= 1000
    error_message = "Give 1 to 1000, or -1 to reserve none."
  }
}

variable "queue_visibility_seconds" {
  description = "The queues' visibility timeout, output of module messaging: a function may take a sixth of it, for which it is 180 or more with consumer_runtime lambda."
  type        = number
  default     = 60
  validation {
    condition     = var.queue_visibility_seconds >= 30 && var.queue_visibility_seconds <= 360
    error_message = "It is 30 to 360: a function takes a sixth of it, and no more than RESTOCK_LEASE (60 s)."
  }
}

variable "databases" {
  description = "Output databases of module database."
  type = map(object({
    address          = string
    port             = number
    owner            = string
    owner_secret_arn = string
    secret_arns      = map(string)
  }))
}

variable "database_security_group_id" {
  description = "The databases' security group, output of module database."
  type        = string
}

variable "database_ca_file" {
  description = "File in the image with RDS's certificate authorities, against which the databases are verified: they are none of those that every image has. Null: the connection is encrypted and the server is not verified."
  type        = string
  default     = null
}

variable "wal_budget_bytes" {
  description = "RESTOCK_WAL_BUDGET, output of module database."
  type        = number
}

variable "topic_arn" {
  description = "The topic, of module messaging."
  type        = string
}

variable "consumers" {
  description = "The queues, output consumers of module messaging."
  type        = map(object({ queue_name = string, queue_arn = string }))
}

variable "vip_threshold" {
  description = "RESTOCK_VIP_THRESHOLD, output of module messaging."
  type        = number
}

variable "configuration_set" {
  description = "RESTOCK_SES_CONFIGURATION_SET, output of module mail."
  type        = string
}

variable "role_arns" {
  description = "Output role_arns of module iam, made with the same consumer_runtime."
  type        = map(string)
}

variable "public_url" {
  description = "Where the factory reaches the API, as in https://shop.example. With consumer_runtime lambda callbacks go to the function's own address."
  type        = string
  validation {
    condition     = startswith(var.public_url, "https://")
    error_message = "It begins with https://: the callback's signature must not be read on its way."
  }
}

variable "default_sku" {
  description = "What a checkout with an empty body buys."
  type        = string
  default     = null
}

variable "factory_api" {
  description = "The factory: requests go to this URL and /api/manufactures."
  type        = string
}

variable "ads_from" {
  description = "Sender of the mails to the ads' managers, of the identity of module mail."
  type        = string
}

variable "marketing_webhook_url" {
  description = "Where the marketing system takes webhooks."
  type        = string
}

variable "marketing_allow" {
  description = "Addresses, such as 10.1.0.0/16, that the webhook's host may have though they are not global."
  type        = list(string)
  default     = []
}

variable "overdue_after" {
  description = "How long a replenishment may be open, as in 24h, before it is overdue."
  type        = string
  default     = "24h"
}

variable "otlp_endpoint" {
  description = "OpenTelemetry collector of the services' spans. Null: no tracing."
  type        = string
  default     = null
}

variable "callback_secrets_arn" {
  description = "Secret with RESTOCK_CALLBACK_SECRETS: one or two of 16 bytes or more, separated by commas."
  type        = string
}

variable "marketing_secrets_arn" {
  description = "Secret with RESTOCK_MARKETING_SECRETS: whsec_ and base64, separated by commas."
  type        = string
}

variable "kms_key_arn" {
  description = "The key of the secrets, where they have one of yours."
  type        = string
  default     = null
}

variable "maintain_schedule" {
  description = "When restock maintain runs, within the hour after, in UTC."
  type        = string
  default     = "cron(0 3 * * ? *)"
}

variable "log_days" {
  description = "Days that logs are kept: one of those that CloudWatch offers."
  type        = number
  default     = 30
}

variable "deletion_protection" {
  description = "The load balancer cannot be destroyed."
  type        = bool
  default     = true
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
