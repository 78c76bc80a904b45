# Everything, in a VPC that is there: databases, messaging, mail, roles, every part, and
# alarms. deployments/terraform/README.md has the order of the first time.

terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 6.0"
    }
  }
}

provider "aws" {
  region = var.region
}

module "messaging" {
  source           = "../../messaging"
  throughput_scope = var.throughput_scope
  # Six times what a function may take.
  visibility_seconds = var.consumer_runtime == "lambda" ? 360 : null
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
  consumer_runtime    = var.consumer_runtime
}

module "database" {
  source              = "../../database"
  vpc_id              = var.vpc_id
  subnet_ids          = var.private_subnet_ids
  engine_version      = var.postgres_version
  instance_class      = var.instance_class
  replica             = var.replica
  owner_secret_arns   = var.owner_secret_arns
  deletion_protection = var.deletion_protection
}

# Made empty, as those of the databases' roles are, and filled by hand.
resource "aws_secretsmanager_secret" "shared" {
  for_each = toset(["callback-secrets", "marketing-secrets"])

  name                    = "restock/${each.key}"
  recovery_window_in_days = var.deletion_protection ? 30 : 0
}

module "compute" {
  source           = "../../compute"
  region           = var.region
  running          = var.running
  consumer_runtime = var.consumer_runtime
  lambda_package   = var.lambda_package

  vpc_id               = var.vpc_id
  subnet_ids           = var.private_subnet_ids
  public_subnet_ids    = var.public_subnet_ids
  certificate_arn      = var.certificate_arn
  image                = var.image
  image_repository_arn = var.image_repository_arn
  deletion_protection  = var.deletion_protection

  databases                  = module.database.databases
  database_security_group_id = module.database.security_group_id
  wal_budget_bytes           = module.database.wal_budget_bytes
  topic_arn                  = module.messaging.topic_arn
  consumers                  = module.messaging.consumers
  queue_visibility_seconds   = module.messaging.visibility_seconds
  vip_threshold              = module.messaging.vip_threshold
  configuration_set          = module.mail.configuration_set
  role_arns                  = module.iam.role_arns

  public_url            = var.public_url
  default_sku           = var.default_sku
  factory_api           = var.factory_api
  ads_from              = var.ads_from
  marketing_webhook_url = var.marketing_webhook_url
  marketing_allow       = var.marketing_allow
  callback_secrets_arn  = aws_secretsmanager_secret.shared["callback-secrets"].arn
  marketing_secrets_arn = aws_secretsmanager_secret.shared["marketing-secrets"].arn
}

module "alarms" {
  source           = "../../alarms"
  alarm_topic_arns = [var.alarm_topic_arn]
  status_log_group = module.compute.status_log_group
  consumers        = module.messaging.consumers
  databases        = module.database.databases
  wal_budget_bytes = module.database.wal_budget_bytes
  storage_bytes    = module.database.storage_bytes
}
