# What the ads consumer sends through. A new account is in SES's sandbox: restock doctor
# says so, and only a request to AWS ends it.

resource "aws_sesv2_configuration_set" "ads" {
  configuration_set_name = var.configuration_set

  delivery_options {
    tls_policy = "REQUIRE"
  }
  reputation_options {
    reputation_metrics_enabled = true
  }
  tags = var.tags
}

resource "aws_sesv2_email_identity" "sender" {
  email_identity         = var.identity
  configuration_set_name = aws_sesv2_configuration_set.ads.configuration_set_name
  tags                   = var.tags
}
