output "api_address" {
  description = "The load balancer's name, to which the API's own name is an alias or a CNAME."
  value       = aws_lb.api.dns_name
}

output "callback_url" {
  description = "RESTOCK_PUBLIC_URL, where the factory's callbacks go."
  value       = local.environment.RESTOCK_PUBLIC_URL
}

output "status_log_group" {
  description = "Where restock status writes what module alarms reads."
  value       = aws_cloudwatch_log_group.part["status"].name
}

output "migrate_command" {
  description = "Runs restock migrate; its log is in the log group of that name."
  value = join(" ", [
    "aws ecs run-task --launch-type FARGATE",
    "--cluster ${aws_ecs_cluster.restock.name}",
    "--task-definition ${aws_ecs_task_definition.part["migrate"].family}",
    "--network-configuration 'awsvpcConfiguration={subnets=[${join(",", var.subnet_ids)}],securityGroups=[${aws_security_group.parts.id}]}'",
  ])
}

output "container_definitions" {
  description = "What each task is started with, by part."
  value       = { for name, task in aws_ecs_task_definition.part : name => task.container_definitions }
}
