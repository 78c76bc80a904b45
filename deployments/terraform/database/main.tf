# Two Postgres instances, the store and the customers, each with what logical replication
# takes. With multi_az the standby has the same storage, so the slot outlives a failover by
# itself; a replica is a server of its own, to which slots are copied from Postgres 17 on.

locals {
  port      = 5432
  databases = toset(["store", "customers"])
  major     = tonumber(split(".", var.engine_version)[0])
  replicas  = var.replica ? local.databases : toset([])

  # Both of a pair have these: a replica that is promoted is a primary at once.
  logical = {
    "rds.logical_replication" = { value = "1", apply = "pending-reboot" }
    "max_replication_slots"   = { value = tostring(var.slots), apply = "pending-reboot" }
    # A sender for each slot, one for each relay that takes over, and RDS's own.
    "max_wal_senders"        = { value = tostring(2 * var.slots), apply = "pending-reboot" }
    "max_slot_wal_keep_size" = { value = tostring(var.wal_budget_gb * 1024), apply = "immediate" }
    # MB, of a rush of 700,000 checkouts: it then finds its segments made, and no commit makes one.
    "min_wal_size"       = { value = "1024", apply = "immediate" }
    "wal_sender_timeout" = { value = tostring(var.sender_timeout_seconds * 1000), apply = "immediate" }
    "rds.force_ssl"      = { value = "1", apply = "immediate" }
  }
  # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.pglogical.slot.synchronization.html
  primary = { for name in local.databases : name => merge(local.logical,
    lookup(var.synchronized_standby_slots, name, "") == "" ? {} : {
      "synchronized_standby_slots" = { value = var.synchronized_standby_slots[name], apply = "immediate" }
  }) }
  replica = { for name in local.replicas : name => merge(local.logical, {
    "hot_standby_feedback"         = { value = "1", apply = "immediate" }
    "sync_replication_slots"       = { value = "1", apply = "immediate" }
    "rds.logical_slot_sync_dbname" = { value = name, apply = "immediate" }
  }) }
  parameters = merge(
    { for name, p in local.primary : name => p },
    { for name, p in local.replica : "${name}-replica" => p },
  )
}

resource "aws_db_parameter_group" "parameters" {
  for_each = local.parameters

  name        = "${var.name_prefix}-${each.key}-postgres${local.major}"
  family      = "postgres${local.major}"
  description = "Logical replication of Restock's ${each.key}"
  tags        = var.tags

  dynamic "parameter" {
    for_each = each.value
    content {
      name         = parameter.key
      value        = parameter.value.value
      apply_method = parameter.value.apply
    }
  }
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_subnet_group" "databases" {
  name       = "${var.name_prefix}-databases"
  subnet_ids = var.subnet_ids
  tags       = var.tags
}

# Who may connect is for those to say who do: module compute adds its own rule.
resource "aws_security_group" "databases" {
  name        = "${var.name_prefix}-databases"
  description = "Restock's databases"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

# RDS keeps the owner's password itself, except where there is a replica: of Postgres it
# makes none of an instance whose password it keeps. Then it is read from a secret of yours,
# and does not come into the state.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html#rds-secrets-manager-limitations
ephemeral "aws_secretsmanager_secret_version" "owner" {
  for_each = local.replicas

  secret_id = var.owner_secret_arns[each.key]
}

resource "aws_db_instance" "primary" {
  for_each = local.databases

  identifier                  = "${var.name_prefix}-${each.key}"
  db_name                     = each.key
  engine                      = "postgres"
  engine_version              = var.engine_version
  instance_class              = var.instance_class
  port                        = local.port
  username                    = var.owner
  manage_master_user_password = var.replica ? null : true
  password_wo                 = var.replica ? jsondecode(ephemeral.aws_secretsmanager_secret_version.owner[each.key].secret_string).password : null
  password_wo_version         = var.replica ? var.owner_password_version : null
  parameter_group_name        = aws_db_parameter_group.parameters[each.key].name
  db_subnet_group_name        = aws_db_subnet_group.databases.name
  vpc_security_group_ids      = [aws_security_group.databases.id]
  multi_az                    = var.multi_az

  storage_type          = "gp3"
  allocated_storage     = var.storage_gb
  max_allocated_storage = var.max_storage_gb
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  backup_retention_period         = var.backup_days
  copy_tags_to_snapshot           = true
  deletion_protection             = var.deletion_protection
  skip_final_snapshot             = !var.deletion_protection
  final_snapshot_identifier       = var.deletion_protection ? "${var.name_prefix}-${each.key}-final" : null
  enabled_cloudwatch_logs_exports = ["postgresql"]
  # Minor versions come in the maintenance window; a major one is a decision, and takes
  # the slots along from 17 on only.
  auto_minor_version_upgrade  = true
  allow_major_version_upgrade = false
  tags                        = var.tags

  lifecycle {
    precondition {
      condition     = var.wal_budget_gb <= var.storage_gb / 2
      error_message = "wal_budget_gb is at most half of storage_gb: what the slot keeps fills the disk beside the tables."
    }
    precondition {
      condition     = !var.replica || local.major >= 17
      error_message = "replica needs engine_version 17 or newer: before it a promoted replica has no slot."
    }
  }
}

resource "aws_db_instance" "replica" {
  for_each = local.replicas

  identifier             = "${var.name_prefix}-${each.key}-replica"
  replicate_source_db    = aws_db_instance.primary[each.key].identifier
  instance_class         = var.instance_class
  parameter_group_name   = aws_db_parameter_group.parameters["${each.key}-replica"].name
  vpc_security_group_ids = [aws_security_group.databases.id]
  max_allocated_storage  = var.max_storage_gb
  copy_tags_to_snapshot  = true
  deletion_protection    = var.deletion_protection
  skip_final_snapshot    = true
  tags                   = var.tags
}

# A secret for the password of each role, as restock migrate makes the roles: made empty,
# so that no password is in Terraform's state. deployments/terraform/README.md says how
# they are filled. The owner's is RDS's own, and rotated by it.
resource "aws_secretsmanager_secret" "role" {
  for_each = toset(flatten([for database, roles in local.roles : [for role in roles : "${database}/${role}"]]))

  name                    = "${var.name_prefix}/${each.key}"
  description             = "Password of that role in that database"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}
