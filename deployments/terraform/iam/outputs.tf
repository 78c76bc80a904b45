output "role_arns" {
  description = "The role of each part: api, relay, status, each consumer by its name, and on Lambda stock-increase."
  value       = { for name, role in aws_iam_role.part : name => role.arn }
}

output "operator_role_arn" {
  description = "The operator's role, null where nobody may take it."
  value       = one(aws_iam_role.operator[*].arn)
}
