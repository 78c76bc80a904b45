# Who may speak to whom: the world to the load balancer, that one to the API, the parts to
# everything outside and to the databases.

resource "aws_security_group" "parts" {
  name        = "${var.name_prefix}-parts"
  description = "Restock's parts"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_egress_rule" "parts" {
  security_group_id = aws_security_group.parts.id
  description       = "AWS, databases, factory, marketing system"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  security_group_id            = aws_security_group.parts.id
  description                  = "Load balancer to API"
  ip_protocol                  = "tcp"
  from_port                    = local.contract.services.api.port
  to_port                      = local.contract.services.api.port
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_vpc_security_group_ingress_rule" "databases" {
  for_each = toset([for d in var.databases : tostring(d.port)])

  security_group_id            = var.database_security_group_id
  description                  = "Restock's parts"
  ip_protocol                  = "tcp"
  from_port                    = tonumber(each.key)
  to_port                      = tonumber(each.key)
  referenced_security_group_id = aws_security_group.parts.id
}

resource "aws_security_group" "balancer" {
  name        = "${var.name_prefix}-balancer"
  description = "Load balancer of Restock's API"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = toset(var.allowed_cidrs)

  security_group_id = aws_security_group.balancer.id
  description       = "Customers"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.key
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "API"
  ip_protocol                  = "tcp"
  from_port                    = local.contract.services.api.port
  to_port                      = local.contract.services.api.port
  referenced_security_group_id = aws_security_group.parts.id
}

resource "aws_lb" "api" {
  name                       = var.name_prefix
  subnets                    = var.public_subnet_ids
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  # Below the 90 s after which the API closes a connection that nobody uses.
  idle_timeout = 60
  tags         = var.tags
}

resource "aws_lb_target_group" "api" {
  name                 = "${var.name_prefix}-api"
  port                 = local.contract.services.api.port
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = var.vpc_id
  deregistration_delay = 30
  tags                 = var.tags

  health_check {
    path     = "/readyz"
    matcher  = "200"
    interval = 10
    timeout  = 5
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.api.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  tags              = var.tags

  default_action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "not found"
      status_code  = "404"
    }
  }
}

# What shoppers and the factory may ask. The probes and /metrics are not among it. A rule
# has five paths at most.
resource "aws_lb_listener_rule" "api" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 1
  tags         = var.tags

  condition {
    path_pattern {
      values = ["/checkout", "/stock-increase/*", "/orders/*", "/products*", "/openapi.json"]
    }
  }
  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.api.arn
  }
}
