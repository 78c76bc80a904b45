# One role a part, with what it calls and nothing besides. The API calls nothing of AWS:
# its role is there to be run as, and so is that of the callback's function.

locals {
  keys = var.kms_key_arn == null ? [] : [var.kms_key_arn]

  on_lambda = var.consumer_runtime == "lambda"
  # Each is taken by what runs it, and by nothing else.
  trusted = { for name in keys(local.statements) : name =>
  local.on_lambda && contains(concat(keys(var.consumers), ["stock-increase"]), name) ? "lambda.amazonaws.com" : "ecs-tasks.amazonaws.com" }

  statements = merge(
    local.on_lambda ? { stock-increase = [] } : {},
    {
      api    = []
      status = [{ actions = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"], resources = concat(local.queues, local.dead) }]
      relay = concat(
        [{ actions = ["sns:Publish"], resources = [var.topic_arn] }],
        [for key in local.keys : { actions = ["kms:GenerateDataKey", "kms:Decrypt"], resources = [key] }],
      )
    },
    { for name, q in var.consumers : name => concat(
      [
        {
          actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"]
          resources = [q.queue_arn]
        },
        { actions = ["sqs:SendMessage", "sqs:GetQueueUrl"], resources = [q.dead_arn] },
        { actions = ["sqs:GetQueueUrl"], resources = [q.undelivered_arn] },
      ],
      name == "ads" ? [{ actions = ["ses:SendEmail"], resources = var.mail_arns }] : [],
      [for key in local.keys : { actions = ["kms:GenerateDataKey", "kms:Decrypt"], resources = [key] }],
    ) },
  )

  queues = [for q in var.consumers : q.queue_arn]
  dead   = flatten([for q in var.consumers : [q.dead_arn, q.undelivered_arn]])
  operator = concat(
    [
      { actions = ["sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"], resources = local.queues },
      {
        actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:PurgeQueue"]
        resources = local.dead
      },
      { actions = ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:GetSubscriptionAttributes"], resources = [var.topic_arn] },
      { actions = ["ses:GetAccount", "ses:GetEmailIdentity"], resources = ["*"] },
    ],
    [for key in local.keys : { actions = ["kms:GenerateDataKey", "kms:Decrypt"], resources = [key] }],
  )
}

data "aws_iam_policy_document" "trust" {
  for_each = toset(values(local.trusted))

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.key]
    }
  }
}

resource "aws_iam_role" "part" {
  for_each = local.statements

  name               = "${var.name_prefix}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trust[local.trusted[each.key]].json
  tags               = var.tags
}

data "aws_iam_policy_document" "part" {
  for_each = { for name, statements in local.statements : name => statements if length(statements) > 0 }

  dynamic "statement" {
    for_each = each.value
    content {
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

resource "aws_iam_role_policy" "part" {
  for_each = data.aws_iam_policy_document.part

  name   = "restock"
  role   = aws_iam_role.part[each.key].id
  policy = each.value.json
}

data "aws_iam_policy_document" "operator_trust" {
  count = length(var.operator_principals) > 0 ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = var.operator_principals
    }
  }
}

data "aws_iam_policy_document" "operator" {
  dynamic "statement" {
    for_each = local.operator
    content {
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

resource "aws_iam_role" "operator" {
  count = length(var.operator_principals) > 0 ? 1 : 0

  name               = "${var.name_prefix}-operator"
  assume_role_policy = data.aws_iam_policy_document.operator_trust[0].json
  tags               = var.tags
}

resource "aws_iam_role_policy" "operator" {
  count = length(var.operator_principals) > 0 ? 1 : 0

  name   = "restock"
  role   = aws_iam_role.operator[0].id
  policy = data.aws_iam_policy_document.operator.json
}
