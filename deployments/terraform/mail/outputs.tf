output "configuration_set" {
  description = "RESTOCK_SES_CONFIGURATION_SET of the ads consumer."
  value       = aws_sesv2_configuration_set.ads.configuration_set_name
}

output "arns" {
  description = "What the ads consumer may send with: the identity and the configuration set."
  value       = [aws_sesv2_email_identity.sender.arn, aws_sesv2_configuration_set.ads.arn]
}

output "dkim_tokens" {
  description = "For a domain: CNAME <token>._domainkey.<domain> to <token>.dkim.amazonses.com, each."
  value       = try(aws_sesv2_email_identity.sender.dkim_signing_attributes[0].tokens, [])
}
