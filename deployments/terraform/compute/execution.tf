# What ECS itself does for a task: it fetches the image, reads the secrets of this one part
# and writes its log. The part has no right to any of these.

data "aws_iam_policy_document" "execution_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "execution" {
  for_each = local.tasks

  name               = "${var.name_prefix}-start-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.execution_trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "execution" {
  for_each = local.tasks

  statement {
    actions = ["secretsmanager:GetSecretValue"]
    resources = concat(
      [for at in values(each.value.databases) : at[1] == "owner" ? var.databases[at[0]].owner_secret_arn : var.databases[at[0]].secret_arns[at[1]]],
      [for name in try(each.value.secrets, []) : local.secrets[name]],
    )
  }
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.part[each.key].arn}:*"]
  }
  dynamic "statement" {
    for_each = var.image_repository_arn == null ? [] : [var.image_repository_arn]
    content {
      actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
      resources = [statement.value]
    }
  }
  dynamic "statement" {
    for_each = var.image_repository_arn == null ? [] : ["*"]
    content {
      actions   = ["ecr:GetAuthorizationToken"]
      resources = [statement.value]
    }
  }
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.tasks

  name   = "restock"
  role   = aws_iam_role.execution[each.key].id
  policy = data.aws_iam_policy_document.execution[each.key].json
}
