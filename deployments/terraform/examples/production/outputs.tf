output "api_address" {
  description = "What the API's own name leads to."
  value       = module.compute.api_address
}

output "callback_url" {
  description = "Where the factory's callbacks go."
  value       = module.compute.callback_url
}

output "migrate_command" {
  description = "Runs restock migrate."
  value       = module.compute.migrate_command
}

output "databases" {
  description = "The databases and the secrets of their roles."
  value       = module.database.databases
}

output "dkim_tokens" {
  description = "The records that verify the mail domain."
  value       = module.mail.dkim_tokens
}

output "container_definitions" {
  description = "What each task is started with."
  value       = module.compute.container_definitions
}

output "status_filters" {
  description = "How metrics are made of the log of restock status."
  value       = module.alarms.status_filters
}
