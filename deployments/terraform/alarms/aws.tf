# What AWS measures by itself. The databases' alarms work also while nothing of Restock runs.

locals {
  dead = merge([for name, c in var.consumers : {
    (c.dead_name)        = "${name}: messages are dead. docs/runbooks.md#restockdeadletters"
    (c.undelivered_name) = "${name}: SNS could not deliver messages to the queue. docs/runbooks.md#restockdeadletters"
  }]...)
}

resource "aws_cloudwatch_metric_alarm" "oldest" {
  for_each = var.consumers

  alarm_name          = "${var.name_prefix}-oldest-${each.key}"
  alarm_description   = "${each.key}: an event waits in the queue for too long. docs/runbooks.md#restockqueueold"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = each.value.queue_name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.queue_age_seconds
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "dead" {
  for_each = local.dead

  alarm_name          = "${var.name_prefix}-dead-${trimsuffix(each.key, ".fifo")}"
  alarm_description   = each.value
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = each.key }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 1
  # SQS reports nothing of a queue that nobody uses.
  treat_missing_data = "notBreaching"
  alarm_actions      = var.alarm_topic_arns
  ok_actions         = var.alarm_topic_arns
  tags               = var.tags
}

resource "aws_cloudwatch_metric_alarm" "slot" {
  for_each = var.databases

  alarm_name          = "${var.name_prefix}-slot-lag-${each.key}"
  alarm_description   = "${each.key}: the slot keeps more than half of the WAL that it may, by RDS's own account. docs/runbooks.md#restockslotretainswal"
  namespace           = "AWS/RDS"
  metric_name         = "OldestReplicationSlotLag"
  dimensions          = { DBInstanceIdentifier = each.value.identifier }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.wal_budget_bytes / 2
  period              = 60
  evaluation_periods  = 5
  # RDS says -1, or nothing, where there is no slot.
  treat_missing_data = "notBreaching"
  alarm_actions      = var.alarm_topic_arns
  ok_actions         = var.alarm_topic_arns
  tags               = var.tags
}

resource "aws_cloudwatch_metric_alarm" "disk" {
  for_each = var.databases

  alarm_name          = "${var.name_prefix}-disk-${each.key}"
  alarm_description   = "${each.key}: less than ${var.disk_free_percent} % of the disk is free."
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  dimensions          = { DBInstanceIdentifier = each.value.identifier }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = var.storage_bytes * var.disk_free_percent / 100
  period              = 300
  evaluation_periods  = 3
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}
