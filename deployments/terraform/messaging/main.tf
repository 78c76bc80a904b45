# The topic, and for each consumer a queue, its dead-letter queue, and one for what SNS
# could not deliver. Names, filter policies, delivery form and limits are the code's own:
# contract.json is written from package schema, and a test holds it against it.

locals {
  contract   = jsondecode(file("${path.module}/contract.json"))
  consumers  = local.contract.consumers
  visibility = coalesce(var.visibility_seconds, local.contract.visibilitySeconds)
}

resource "aws_sns_topic" "events" {
  name                        = local.contract.topic
  fifo_topic                  = true
  content_based_deduplication = false
  fifo_throughput_scope       = var.throughput_scope
  kms_master_key_id           = coalesce(var.kms_key_arn, "alias/aws/sns")
  tags                        = var.tags
}

resource "aws_sqs_queue" "queue" {
  for_each = local.consumers

  name                       = each.value.queue
  fifo_queue                 = true
  message_retention_seconds  = local.contract.retentionSeconds
  visibility_timeout_seconds = local.visibility
  deduplication_scope        = var.high_throughput_queues ? "messageGroup" : "queue"
  policy                     = data.aws_iam_policy_document.from_topic.json
  fifo_throughput_limit      = var.high_throughput_queues ? "perMessageGroupId" : "perQueue"
  sqs_managed_sse_enabled    = var.kms_key_arn == null ? true : null
  kms_master_key_id          = var.kms_key_arn
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[each.key].arn
    maxReceiveCount     = local.contract.maxReceiveCount
  })
  tags = var.tags
}

resource "aws_sqs_queue" "dead" {
  for_each = local.consumers

  name                      = each.value.dlq
  fifo_queue                = true
  message_retention_seconds = local.contract.retentionSeconds
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn
  tags                      = var.tags
}

# SNS discards what it cannot deliver unless the subscription has a queue for it.
resource "aws_sqs_queue" "undelivered" {
  for_each = local.consumers

  name                      = each.value.subscriptionDlq
  fifo_queue                = true
  message_retention_seconds = local.contract.retentionSeconds
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  policy                    = data.aws_iam_policy_document.from_topic.json
  kms_master_key_id         = var.kms_key_arn
  tags                      = var.tags
}

# This topic, and no other, may send to the queue that the policy is of.
data "aws_iam_policy_document" "from_topic" {
  statement {
    sid       = "topic"
    actions   = ["sqs:SendMessage"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_sns_topic.events.arn]
    }
  }
}

resource "aws_sns_topic_subscription" "queue" {
  for_each = local.consumers

  topic_arn            = aws_sns_topic.events.arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.queue[each.key].arn
  raw_message_delivery = each.value.raw
  filter_policy_scope  = "MessageAttributes"
  filter_policy        = replace(jsonencode(each.value.filter), "\"vip_threshold\"", tostring(var.vip_threshold))
  redrive_policy       = jsonencode({ deadLetterTargetArn = aws_sqs_queue.undelivered[each.key].arn })
}
