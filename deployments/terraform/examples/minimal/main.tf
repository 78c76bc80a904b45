# Messaging, mail and roles: what Restock needs of AWS when its parts and its databases
# run elsewhere.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 6.0"
    }
  }
}

variable "region" {
  description = "Where everything is."
  type        = string
  default     = "ap-northeast-2"
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

provider "aws" {
  region = var.region
}

module "messaging" {
  source = "../../messaging"
}

module "mail" {
  source   = "../../mail"
  identity = var.mail_identity
}

module "iam" {
  source              = "../../iam"
  topic_arn           = module.messaging.topic_arn
  consumers           = module.messaging.consumers
  mail_arns           = module.mail.arns
  operator_principals = var.operator_principals
}

output "environment" {
  description = "What the parts are given besides their databases and secrets."
  value = {
    AWS_REGION                    = var.region
    RESTOCK_TOPIC_ARN             = module.messaging.topic_arn
    RESTOCK_VIP_THRESHOLD         = tostring(module.messaging.vip_threshold)
    RESTOCK_SES_CONFIGURATION_SET = module.mail.configuration_set
  }
}

output "role_arns" {
  description = "The role of each part."
  value       = module.iam.role_arns
}

output "dkim_tokens" {
  description = "The records that verify the mail domain."
  value       = module.mail.dkim_tokens
}
