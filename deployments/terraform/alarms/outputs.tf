output "alarm_names" {
  description = "All alarms."
  value = sort(concat(
    [for a in aws_cloudwatch_metric_alarm.status : a.alarm_name],
    [for a in aws_cloudwatch_metric_alarm.oldest : a.alarm_name],
    [for a in aws_cloudwatch_metric_alarm.dead : a.alarm_name],
    [for a in aws_cloudwatch_metric_alarm.slot : a.alarm_name],
    [for a in aws_cloudwatch_metric_alarm.disk : a.alarm_name],
    [aws_cloudwatch_metric_alarm.looks.alarm_name],
  ))
}

# What the metrics are made of, for a test to hold against a line of the program's.
output "status_filters" {
  description = "By metric the pattern that selects a line of the log, and the field that is its value."
  value       = { for name, m in local.metrics : name => { pattern = m.pattern, field = m.field } }
}
