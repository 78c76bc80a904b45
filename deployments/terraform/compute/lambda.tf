# With consumer_runtime = "lambda": a function for each consumer, and one for the factory's
# callback behind an HTTP API. A function is given its secrets in its environment, as ECS
# does it for a task, only that they are read when this is applied: they are in Terraform's
# state, and a new value needs another apply.

locals {
  functions = { for name, f in local.contract.functions : name => f if local.on_lambda && var.running }
  function_secrets = { for key, arn in merge(
    { for name, f in local.functions : "${f.database[0]}/${f.database[1]}" => var.databases[f.database[0]].secret_arns[f.database[1]]... },
    { for name in flatten([for f in local.functions : try(f.secrets, [])]) : name => local.secrets[name]... },
  ) : key => arn[0] }
}

data "aws_secretsmanager_secret_version" "function" {
  for_each = local.function_secrets

  secret_id = each.value
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${var.name_prefix}-${each.key}"
  retention_in_days = var.log_days
  tags              = var.tags
}

# What a function needs to be run at all, beside what the part calls: its log, and an
# address in the subnets. EC2 grants the latter for no single resource.
data "aws_iam_policy_document" "function" {
  for_each = local.functions

  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
  }
  statement {
    actions = [
      "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface",
      "ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions

  name   = "function"
  role   = element(split("/", var.role_arns[each.key]), -1)
  policy = data.aws_iam_policy_document.function[each.key].json
}

resource "aws_lambda_function" "function" {
  for_each = local.functions

  function_name    = "${var.name_prefix}-${each.key}"
  description      = each.key == "stock-increase" ? "Takes the factory's callbacks" : "Handles the events of ${each.key}"
  role             = var.role_arns[each.key]
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [lower(var.cpu_architecture)]
  filename         = var.lambda_package
  source_code_hash = filebase64sha256(var.lambda_package)
  memory_size      = 256
  # A sixth of the queue's visibility timeout, and no more than RESTOCK_LEASE.
  timeout = floor(var.queue_visibility_seconds / 6)
  # Anybody may call the callback's address, and each of its functions takes connections to
  # the store. A consumer's are bounded by its event source.
  reserved_concurrent_executions = each.key == "stock-increase" ? var.callback_concurrency : -1
  tags                           = var.tags

  vpc_config {
    subnet_ids         = var.subnet_ids
    security_group_ids = [aws_security_group.parts.id]
  }
  environment {
    variables = merge(
      { for name in try(each.value.environment, []) : name => local.environment[name] if local.environment[name] != "" },
      { for name in try(each.value.secrets, []) : name => data.aws_secretsmanager_secret_version.function[name].secret_string },
      {
        RESTOCK_CONSUMER = each.key
        # A blank is no + there.
        RESTOCK_DATABASE_URL = replace(local.url[each.value.database[0]][each.value.database[1]], "@",
        ":${replace(urlencode(data.aws_secretsmanager_secret_version.function["${each.value.database[0]}/${each.value.database[1]}"].secret_string), "+", "%20")}@")
      },
    )
  }
  depends_on = [aws_iam_role_policy.function]

  lifecycle {
    # A call to the outside takes up to 15 s, and the last 10 s are for recording it.
    # One that a function has no time for is cut each time, and gives up in the end.
    precondition {
      condition     = var.queue_visibility_seconds >= 180
      error_message = "queue_visibility_seconds is 180 or more with consumer_runtime lambda: a function takes a sixth of it, and needs 30 s."
    }
  }
}

resource "aws_lambda_event_source_mapping" "consumer" {
  for_each = { for name, f in local.functions : name => f if name != "stock-increase" }

  event_source_arn        = var.consumers[each.key].queue_arn
  function_name           = aws_lambda_function.function[each.key].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = var.lambda_concurrency
  }
}

resource "aws_apigatewayv2_api" "callback" {
  count = local.on_lambda ? 1 : 0

  name          = "${var.name_prefix}-callback"
  description   = "The factory's callbacks, and nothing else"
  protocol_type = "HTTP"
  tags          = var.tags
}

resource "aws_apigatewayv2_stage" "callback" {
  count = local.on_lambda ? 1 : 0

  api_id      = aws_apigatewayv2_api.callback[0].id
  name        = "$default"
  auto_deploy = true
  tags        = var.tags
}

resource "aws_apigatewayv2_integration" "callback" {
  for_each = { for name, f in local.functions : name => f if name == "stock-increase" }

  api_id                 = aws_apigatewayv2_api.callback[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.function[each.key].invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "callback" {
  for_each = aws_apigatewayv2_integration.callback

  api_id    = aws_apigatewayv2_api.callback[0].id
  route_key = "POST /stock-increase/{id}"
  target    = "integrations/${each.value.id}"
}

resource "aws_lambda_permission" "callback" {
  for_each = aws_apigatewayv2_integration.callback

  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function[each.key].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.callback[0].execution_arn}/*/POST/stock-increase/{id}"
}
