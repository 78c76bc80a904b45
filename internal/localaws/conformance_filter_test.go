package localaws_test

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/stretchr/testify/require"
)

func filterSuite() map[string]func(T, *env) {
	suite := map[string]func(T, *env){
		"filter/bad policies":        filterBad,
		"filter/string array":        filterStringArray,
		"filter/set and unset":       filterSetAndUnset,
		"filter/body":                filterBody,
		"filter/numeric and another": filterTwoKeys,
	}
	for name, c := range map[string]struct {
		policy string
		passes []string // of these values of the attribute "color"; "-" is a message without it
	}{
		"exact":              {`{"color":["red","blue"]}`, []string{"red", "blue"}},
		"prefix":             {`{"color":[{"prefix":"b"}]}`, []string{"blue", "black"}},
		"suffix":             {`{"color":[{"suffix":"ck"}]}`, []string{"black"}},
		"ignore case":        {`{"color":[{"equals-ignore-case":"RED"}]}`, []string{"red"}},
		"anything but":       {`{"color":[{"anything-but":["red","blue"]}]}`, []string{"black"}},
		"anything but one":   {`{"color":[{"anything-but":"red"}]}`, []string{"blue", "black"}},
		"anything but start": {`{"color":[{"anything-but":{"prefix":"bl"}}]}`, []string{"red"}},
		"exists":             {`{"color":[{"exists":true}]}`, []string{"red", "blue", "black"}},
		"exists not":         {`{"color":[{"exists":false}]}`, []string{"-"}},
		"either":             {`{"color":["red",{"prefix":"bla"}]}`, []string{"red", "black"}},
		"or":                 {`{"$or":[{"color":["red"]},{"color":[{"suffix":"ue"}]}]}`, []string{"red", "blue"}},
	} {
		suite["filter/"+name] = func(t T, e *env) { filterByColor(t, e, c.policy, c.passes) }
	}
	return suite
}

func filterByColor(t T, e *env, policy string, passes []string) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true", "FilterPolicy": policy})
	for _, color := range []string{"red", "blue", "black", "-"} {
		e.publish(topic, color, func(in *sns.PublishInput) {
			if color != "-" {
				in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"color": text(color)}
			}
		})
	}
	require.Equal(t, passes, bodies(e.drain(q, len(passes))))
	e.nothing(q)
}

func filterTwoKeys(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true", "FilterPolicy": `{"eventType":["order.placed"],"quantity":[{"numeric":[">=",100,"<",1000]}]}`})
	for _, c := range []struct{ kind, quantity string }{
		{"order.placed", "99"}, {"order.placed", "100"}, {"order.placed", "999.5"}, {"order.placed", "1000"}, {"other", "500"},
	} {
		e.publish(topic, c.quantity, func(in *sns.PublishInput) {
			in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"eventType": text(c.kind), "quantity": number(c.quantity)}
		})
	}
	require.Equal(t, []string{"100", "999.5"}, bodies(e.drain(q, 2)))
	e.nothing(q)
}

func filterStringArray(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true", "FilterPolicy": `{"tags":["new",{"numeric":["=",7]}]}`})
	for _, tags := range []string{`["old","new"]`, `["old"]`, `[7,"old"]`, `[8]`} {
		e.publish(topic, tags, func(in *sns.PublishInput) {
			in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"tags": {DataType: aws.String("String.Array"), StringValue: &tags}}
		})
	}
	require.Equal(t, []string{`["old","new"]`, `[7,"old"]`}, bodies(e.drain(q, 2)))
	e.nothing(q)
}

func filterBody(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true", "FilterPolicyScope": "MessageBody", "FilterPolicy": `{"order":{"kind":["vip"],"lines":[{"numeric":[">",2]}]}}`})
	for _, body := range []string{
		`{"order":{"kind":"vip","lines":3}}`, `{"order":{"kind":"vip","lines":2}}`, `{"order":{"kind":"normal","lines":9}}`, `{}`, `not JSON`,
		`{"order":{"kind":["normal","vip"],"lines":[1,5]}}`,
	} {
		e.publish(topic, body)
	}
	require.Equal(t, []string{`{"order":{"kind":"vip","lines":3}}`, `{"order":{"kind":["normal","vip"],"lines":[1,5]}}`}, bodies(e.drain(q, 2)))
	e.nothing(q)
}

func filterSetAndUnset(t T, e *env) {
	topic, q := e.topic(nil), e.queue(nil)
	arn := e.subscribe(topic, q, attrs{"RawMessageDelivery": "true"})
	set := func(policy string) {
		_, err := e.sns.SetSubscriptionAttributes(t.Context(), &sns.SetSubscriptionAttributesInput{SubscriptionArn: &arn, AttributeName: aws.String("FilterPolicy"), AttributeValue: &policy})
		require.NoError(t, err)
	}
	set(`{"color":["red"]}`)
	e.publish(topic, "hidden")
	set("{}")
	e.publish(topic, "seen")
	require.Equal(t, []string{"seen"}, bodies(e.drain(q, 1)))
	e.nothing(q)
}

func filterBad(t T, e *env) {
	topic, q := e.topic(nil), e.queue(nil)
	for _, policy := range []string{
		`{`, `[]`, `{"a":"b"}`, `{"a":[{"like":"b"}]}`, `{"a":[{"numeric":["~",1]}]}`, `{"a":[{"numeric":[">","1"]}]}`,
		`{"a":[{"exists":"yes"}]}`, `{"a":{"b":["nested"]}}`, `{"a":[{"prefix":"x","suffix":"y"}]}`, `{"a":[]}`,
		`{"a":["1"],"b":["1"],"c":["1"],"d":["1"],"e":["1"],"f":["1"]}`,
	} {
		_, err := e.trySubscribe(topic, q, attrs{"FilterPolicy": policy})
		requireInvalid(t, err)
	}
}
