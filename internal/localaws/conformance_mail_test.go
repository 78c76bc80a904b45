package localaws_test

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	sestypes "github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/stretchr/testify/require"
)

func mailSuite() map[string]func(T, *env) {
	return map[string]func(T, *env){
		"mail/simple":        mailSimple,
		"mail/raw":           mailRaw,
		"mail/no recipients": mailNobody,
		"mail/identities":    mailIdentities,
		"mail/account":       mailAccount,
	}
}

func simpleMail(from, to, subject, body string) *sesv2.SendEmailInput {
	return &sesv2.SendEmailInput{
		FromEmailAddress: &from, Destination: &sestypes.Destination{ToAddresses: []string{to}},
		Content: &sestypes.EmailContent{Simple: &sestypes.Message{
			Subject: &sestypes.Content{Data: &subject}, Body: &sestypes.Body{Text: &sestypes.Content{Data: &body}},
		}},
		EmailTags: []sestypes.MessageTag{{Name: aws.String("event-id"), Value: aws.String("e-1")}},
	}
}

func (e *env) identity(name string) {
	e.Helper()
	_, err := e.ses.CreateEmailIdentity(e.Context(), &sesv2.CreateEmailIdentityInput{EmailIdentity: &name})
	require.NoError(e, err)
}

func mailSimple(t T, e *env) {
	from := unique("mail") + "@example.com"
	e.identity(from)
	out, err := e.ses.SendEmail(t.Context(), simpleMail(from, "success@simulator.amazonses.com", "재고", "안녕"))
	require.NoError(t, err)
	require.NotEmpty(t, *out.MessageId)
}

func mailRaw(t T, e *env) {
	from := unique("mail") + "@example.com"
	e.identity(from)
	raw := "From: " + from + "\r\nTo: success@simulator.amazonses.com\r\nSubject: raw\r\n\r\nbody\r\n"
	out, err := e.ses.SendEmail(t.Context(), &sesv2.SendEmailInput{
		FromEmailAddress: &from, Destination: &sestypes.Destination{ToAddresses: []string{"success@simulator.amazonses.com"}},
		Content: &sestypes.EmailContent{Raw: &sestypes.RawMessage{Data: []byte(raw)}},
	})
	require.NoError(t, err)
	require.NotEmpty(t, *out.MessageId)
}

func mailNobody(t T, e *env) {
	in := simpleMail("a@example.com", "b@example.com", "s", "b")
	in.Destination = &sestypes.Destination{}
	_, err := e.ses.SendEmail(t.Context(), in)
	var bad *sestypes.BadRequestException
	require.ErrorAs(t, err, &bad)
}

func mailIdentities(t T, e *env) {
	name := unique("mail") + "@example.com"
	_, err := e.ses.GetEmailIdentity(t.Context(), &sesv2.GetEmailIdentityInput{EmailIdentity: &name})
	var missing *sestypes.NotFoundException
	require.ErrorAs(t, err, &missing)
	e.identity(name)
	out, err := e.ses.GetEmailIdentity(t.Context(), &sesv2.GetEmailIdentityInput{EmailIdentity: &name})
	require.NoError(t, err)
	require.Equal(t, sestypes.IdentityTypeEmailAddress, out.IdentityType)
	_, err = e.ses.DeleteEmailIdentity(t.Context(), &sesv2.DeleteEmailIdentityInput{EmailIdentity: &name})
	require.NoError(t, err)
}

func mailAccount(t T, e *env) {
	out, err := e.ses.GetAccount(t.Context(), &sesv2.GetAccountInput{})
	require.NoError(t, err)
	require.True(t, out.SendingEnabled)
}
