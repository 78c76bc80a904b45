package ops

import (
	"context"
	"errors"
	netmail "net/mail"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
)

// ses checks the account and the sender.
func (a awsExamination) ses(ctx context.Context) {
	s := subject{a.examination, "ses"}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	account, err := a.cfg.SES.GetAccount(ctx, &sesv2.GetAccountInput{})
	if err != nil {
		s.fail("reachable", "check AWS_REGION and the credentials: aws sesv2 get-account", "%s", err)
		return
	}
	switch {
	case !account.SendingEnabled:
		s.fail("account", "aws sesv2 put-account-sending-attributes --sending-enabled, once the cause is settled with AWS", "sending is paused (%s)", orNone(aws.ToString(account.EnforcementStatus)))
	case !account.ProductionAccessEnabled:
		s.warn("account", "ask for production access: aws sesv2 put-account-details --production-access-enabled …", "it is in the sandbox: mails go to verified addresses only, 200 a day")
	default:
		s.ok("account", "sending is enabled, out of the sandbox")
	}
	a.sender(ctx, s)
}

// sender checks that the address, or its domain, is verified.
func (a awsExamination) sender(ctx context.Context, s subject) {
	from, err := netmail.ParseAddress(a.cfg.AdsFrom)
	if err != nil {
		s.fail("sender", "give --ads-from as address or Name <address>", "it is no mail address")
		return
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	for _, identity := range []string{from.Address, domain} {
		out, err := a.cfg.SES.GetEmailIdentity(ctx, &sesv2.GetEmailIdentityInput{EmailIdentity: aws.String(identity)})
		var none *types.NotFoundException
		switch {
		case errors.As(err, &none):
		case err != nil:
			s.unknown("sender", err)
			return
		case out.VerifiedForSendingStatus:
			s.ok("sender", "%s is verified", identity)
			return
		}
	}
	s.fail("sender", "aws sesv2 create-email-identity --email-identity "+domain+", and put what it answers into the DNS", "neither %s nor %s is verified: SES refuses every mail", from.Address, domain)
}
