output "databases" {
  description = "Of store and customers where it is, who owns it, and the ARNs of its passwords' secrets by role; the owner's is JSON with a member password."
  value = { for name in local.databases : name => {
    address          = aws_db_instance.primary[name].address
    port             = local.port
    identifier       = aws_db_instance.primary[name].identifier
    owner            = aws_db_instance.primary[name].username
    owner_secret_arn = var.replica ? var.owner_secret_arns[name] : one(aws_db_instance.primary[name].master_user_secret[*].secret_arn)
    secret_arns      = { for role in local.roles[name] : role => aws_secretsmanager_secret.role["${name}/${role}"].arn }
  } }
}

output "security_group_id" {
  description = "The databases' security group, to which whoever connects adds a rule."
  value       = aws_security_group.databases.id
}

output "replica_addresses" {
  description = "Where the replicas are, by database."
  value       = { for name, replica in aws_db_instance.replica : name => replica.address }
}

output "wal_budget_bytes" {
  description = "RESTOCK_WAL_BUDGET of relays and restock status."
  value       = var.wal_budget_gb * 1024 * 1024 * 1024
}

output "storage_bytes" {
  description = "Disk of each instance at first."
  value       = var.storage_gb * 1024 * 1024 * 1024
}
