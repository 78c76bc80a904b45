# Every part as an ECS service on Fargate, and migrate and maintain as tasks that end. What
# a part is started with is in parts.json, which a test holds against the program itself.

locals {
  contract  = jsondecode(file("${path.module}/parts.json"))
  on_lambda = var.consumer_runtime == "lambda"
  services = { for name, part in local.contract.services : name => part
  if !(local.on_lambda && startswith(name, "consume-")) }
  running   = { for name, part in local.services : name => part if var.running }
  consumers = { for name, part in local.running : trimprefix(name, "consume-") => name if startswith(name, "consume-") }
  tasks     = merge(local.services, local.contract.jobs)

  environment = { for name, value in {
    AWS_REGION                    = var.region
    RESTOCK_TOPIC_ARN             = var.topic_arn
    RESTOCK_VIP_THRESHOLD         = var.vip_threshold
    RESTOCK_WAL_BUDGET            = var.wal_budget_bytes
    RESTOCK_PUBLIC_URL            = local.on_lambda ? one(aws_apigatewayv2_api.callback[*].api_endpoint) : var.public_url
    RESTOCK_DEFAULT_SKU           = var.default_sku
    RESTOCK_FACTORY_API           = var.factory_api
    RESTOCK_ADS_FROM              = var.ads_from
    RESTOCK_SES_CONFIGURATION_SET = var.configuration_set
    RESTOCK_MARKETING_WEBHOOK_URL = var.marketing_webhook_url
    RESTOCK_MARKETING_ALLOW       = join(",", var.marketing_allow)
    RESTOCK_OVERDUE_AFTER         = var.overdue_after
    OTEL_EXPORTER_OTLP_ENDPOINT   = var.otlp_endpoint
  } : name => value == null ? "" : tostring(value) }
  everywhere = ["AWS_REGION", "OTEL_EXPORTER_OTLP_ENDPOINT"]

  secrets = {
    RESTOCK_CALLBACK_SECRETS  = var.callback_secrets_arn
    RESTOCK_MARKETING_SECRETS = var.marketing_secrets_arn
  }
  tls = var.database_ca_file == null ? "sslmode=require" : "sslmode=verify-full&sslrootcert=${var.database_ca_file}"
  # A connection string without its password, which ECS puts beside it.
  url = { for name, d in var.databases : name => { for role in concat(keys(d.secret_arns), ["owner"]) :
    role => "postgres://${role == "owner" ? d.owner : role}@${d.address}:${d.port}/${name}?${local.tls}"
  } }
  password_secret = { for name, d in var.databases : name => merge(d.secret_arns, { owner = "${d.owner_secret_arn}:password::" }) }
}

resource "aws_ecs_cluster" "restock" {
  name = var.name_prefix
  tags = var.tags

  # The scaling of the consumers needs the number of running tasks.
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_cloudwatch_log_group" "part" {
  for_each = local.tasks

  name              = "/${var.name_prefix}/${each.key}"
  retention_in_days = var.log_days
  tags              = var.tags
}

resource "aws_ecs_task_definition" "part" {
  for_each = local.tasks

  family                   = "${var.name_prefix}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = lookup(var.sizes, each.key, var.sizes.default).cpu
  memory                   = lookup(var.sizes, each.key, var.sizes.default).memory
  execution_role_arn       = aws_iam_role.execution[each.key].arn
  task_role_arn            = can(each.value.role) ? var.role_arns[each.value.role] : null
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }
  container_definitions = jsonencode([merge(
    {
      name      = each.key
      image     = var.image
      essential = true
      command   = each.value.command
      user      = "65532:65532"
      environment = [for name in sort(concat(
        [for name in concat(local.everywhere, try(each.value.environment, [])) : name if local.environment[name] != ""],
        [for name, _ in each.value.databases : "${name}_URL"],
        )) : { name = name, value = try(local.environment[name],
        local.url[each.value.databases[trimsuffix(name, "_URL")][0]][each.value.databases[trimsuffix(name, "_URL")][1]]) }
      ]
      secrets = concat(
        [for name, at in each.value.databases : { name = "${name}_PASSWORD", valueFrom = local.password_secret[at[0]][at[1]] }],
        [for name in try(each.value.secrets, []) : { name = name, valueFrom = local.secrets[name] }],
      )
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      # Longer than the part itself takes to stop in order.
      stopTimeout = local.contract.stopTimeoutSeconds
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.part[each.key].name
          awslogs-region        = var.region
          awslogs-stream-prefix = "restock"
        }
      }
    },
    { for name, value in {
      portMappings = [{ containerPort = try(each.value.port, 0), hostPort = try(each.value.port, 0), protocol = "tcp" }]
      healthCheck = {
        command     = ["CMD", "/restock", "healthcheck", "http://127.0.0.1:${try(each.value.port, 0)}/healthz"]
        interval    = 10
        timeout     = 5
        retries     = 3
        startPeriod = 30
      }
    } : name => value if can(each.value.port) },
  )])
}

# Parts that take care of themselves: two relays for each database, of which one is active
# and one stands by, and one that looks from outside.
resource "aws_ecs_service" "fixed" {
  for_each = { for name, part in local.running : name => part if startswith(name, "relay-") || name == "status" }

  name            = each.key
  cluster         = aws_ecs_cluster.restock.id
  task_definition = aws_ecs_task_definition.part[each.key].arn
  launch_type     = "FARGATE"
  desired_count   = each.key == "status" ? 1 : 2
  propagate_tags  = "SERVICE"
  tags            = var.tags

  # A relay's standby is there while the other one is exchanged; two that look would
  # both report.
  deployment_minimum_healthy_percent = each.key == "status" ? 0 : 50
  deployment_maximum_percent         = each.key == "status" ? 100 : 150
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  network_configuration {
    subnets         = var.subnet_ids
    security_groups = [aws_security_group.parts.id]
  }
}

# How many there are of these is for the scaling to say.
resource "aws_ecs_service" "scaled" {
  for_each = { for name, part in local.running : name => part if name == "api" || startswith(name, "consume-") }

  name            = each.key
  cluster         = aws_ecs_cluster.restock.id
  task_definition = aws_ecs_task_definition.part[each.key].arn
  launch_type     = "FARGATE"
  desired_count   = each.key == "api" ? var.api_tasks.min : var.consumer_tasks.min
  propagate_tags  = "SERVICE"
  tags            = var.tags

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = each.key == "api" ? 60 : null
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  network_configuration {
    subnets         = var.subnet_ids
    security_groups = [aws_security_group.parts.id]
  }
  dynamic "load_balancer" {
    for_each = each.key == "api" ? ["api"] : []
    content {
      target_group_arn = aws_lb_target_group.api.arn
      container_name   = "api"
      container_port   = each.value.port
    }
  }
  depends_on = [aws_lb_listener_rule.api]
  lifecycle {
    ignore_changes = [desired_count]
  }
}
