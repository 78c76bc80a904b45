# The API by its processor; a consumer by the depth of its queue for each task, up and
# down, and up by the age of the oldest message. Age alone takes no task away: it is high
# and the depth low where one message group fails, and there more tasks mend nothing.

locals {
  scaled = { for name, service in aws_ecs_service.scaled : name => {
    min = name == "api" ? var.api_tasks.min : var.consumer_tasks.min
    max = name == "api" ? var.api_tasks.max : var.consumer_tasks.max
    id  = "service/${aws_ecs_cluster.restock.name}/${service.name}"
  } }
}

resource "aws_appautoscaling_target" "part" {
  for_each = local.scaled

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = each.value.id
  min_capacity       = each.value.min
  max_capacity       = each.value.max
}

resource "aws_appautoscaling_policy" "processor" {
  for_each = { for name, at in local.scaled : name => at if name == "api" }

  name               = "processor"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = aws_appautoscaling_target.part[each.key].resource_id

  target_tracking_scaling_policy_configuration {
    target_value = var.api_tasks.processor_percent
    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_policy" "depth" {
  for_each = local.consumers

  name               = "depth"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = aws_appautoscaling_target.part[each.value].resource_id

  target_tracking_scaling_policy_configuration {
    target_value = var.consumer_tasks.depth_each
    customized_metric_specification {
      metrics {
        id          = "waiting"
        return_data = false
        metric_stat {
          stat = "Average"
          metric {
            namespace   = "AWS/SQS"
            metric_name = "ApproximateNumberOfMessagesVisible"
            dimensions {
              name  = "QueueName"
              value = var.consumers[each.key].queue_name
            }
          }
        }
      }
      metrics {
        id          = "tasks"
        return_data = false
        metric_stat {
          stat = "Average"
          metric {
            namespace   = "ECS/ContainerInsights"
            metric_name = "RunningTaskCount"
            dimensions {
              name  = "ClusterName"
              value = aws_ecs_cluster.restock.name
            }
            dimensions {
              name  = "ServiceName"
              value = each.value
            }
          }
        }
      }
      metrics {
        id         = "each"
        expression = "waiting / tasks"
        label      = "Messages that wait, for each task"
      }
    }
  }
}

resource "aws_appautoscaling_policy" "age" {
  for_each = local.consumers

  name               = "age"
  policy_type        = "StepScaling"
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = aws_appautoscaling_target.part[each.value].resource_id

  step_scaling_policy_configuration {
    adjustment_type = "ChangeInCapacity"
    cooldown        = 120
    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "age" {
  for_each = local.consumers

  alarm_name          = "${var.name_prefix}-scale-${each.key}"
  alarm_description   = "Adds a task to ${each.value}; nobody is called."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = var.consumers[each.key].queue_name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.consumer_tasks.age_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.age[each.key].arn]
  tags                = var.tags
}
