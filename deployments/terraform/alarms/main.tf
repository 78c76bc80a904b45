# What calls somebody. Queues and databases are watched by what AWS measures itself. What
# only Restock knows is in the log of restock status --watch --json, a line a look, of
# which metric filters make metrics: no program more runs for it. status.json has the
# fields; a test holds them against what the program prints.

locals {
  status = jsondecode(file("${path.module}/status.json"))
  # Each metric of each database, or of the whole. What the look could not ask is left
  # out, so that no old value passes for a new one.
  metrics = merge([for index, database in local.status.databases : {
    for name, m in local.status.metrics : "${name}-${database}" => merge(m, {
      name     = "${name}-${database}"
      field    = "$.relays[${index}].${m.field}"
      pattern  = "{ ($.relays[${index}].database = \"${database}\") && ($.relays[${index}].error NOT EXISTS) && ($.relays[${index}].${m.field} >= 0) }"
      database = database
    }) if contains(m.of, database)
  }]...)
  limits = {
    lag     = var.lag_seconds
    left    = var.slot_left_seconds
    parked  = 0
    overdue = 0
  }
}

resource "aws_cloudwatch_log_metric_filter" "status" {
  for_each = local.metrics

  name           = "${var.name_prefix}-${each.key}"
  log_group_name = var.status_log_group
  pattern        = each.value.pattern
  metric_transformation {
    namespace = var.namespace
    name      = each.value.name
    value     = each.value.field
    unit      = each.value.unit
  }
}

resource "aws_cloudwatch_metric_alarm" "status" {
  for_each = local.metrics

  alarm_name          = "${var.name_prefix}-${each.key}"
  alarm_description   = "${each.value.database}: ${each.value.means} docs/runbooks.md#${each.value.runbook}"
  namespace           = var.namespace
  metric_name         = aws_cloudwatch_log_metric_filter.status[each.key].metric_transformation[0].name
  statistic           = each.value.below ? "Minimum" : "Maximum"
  comparison_operator = each.value.below ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = local.limits[each.value.limit]
  period              = 60
  evaluation_periods  = each.value.minutes
  # Nothing is known then, which is for the alarm looks to say.
  treat_missing_data = "notBreaching"
  alarm_actions      = var.alarm_topic_arns
  ok_actions         = var.alarm_topic_arns
  tags               = var.tags
}

# A look that could ask everything. Where there is none, half of the alarms are blind.
resource "aws_cloudwatch_log_metric_filter" "looks" {
  name           = "${var.name_prefix}-looks"
  log_group_name = var.status_log_group
  pattern        = "{ ($.health = \"healthy\") || ($.health = \"degraded\") }"
  metric_transformation {
    namespace = var.namespace
    name      = "looks"
    value     = "1"
    unit      = "Count"
  }
}

resource "aws_cloudwatch_metric_alarm" "looks" {
  alarm_name          = "${var.name_prefix}-looks"
  alarm_description   = "restock status does not look, or cannot ask all of it: what it would tell is unknown. docs/runbooks.md#restockstatusmissing"
  namespace           = var.namespace
  metric_name         = aws_cloudwatch_log_metric_filter.looks.metric_transformation[0].name
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}
