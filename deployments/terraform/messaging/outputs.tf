output "topic_arn" {
  description = "RESTOCK_TOPIC_ARN of the relays."
  value       = aws_sns_topic.events.arn
}

output "consumers" {
  description = "For each consumer the ARNs of its queue, its dead-letter queue and the queue of what SNS could not deliver."
  value = { for name, _ in local.consumers : name => {
    queue_arn        = aws_sqs_queue.queue[name].arn
    queue_name       = aws_sqs_queue.queue[name].name
    dead_arn         = aws_sqs_queue.dead[name].arn
    dead_name        = aws_sqs_queue.dead[name].name
    undelivered_arn  = aws_sqs_queue.undelivered[name].arn
    undelivered_name = aws_sqs_queue.undelivered[name].name
  } }
}

output "vip_threshold" {
  description = "RESTOCK_VIP_THRESHOLD of the vip consumer and of whoever compares."
  value       = var.vip_threshold
}

output "visibility_seconds" {
  description = "The queues' visibility timeout."
  value       = local.visibility
}
