package localaws

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFormOrdersByNumber(t *testing.T) {
	t.Parallel()
	f, err := parseForm("L.member.1=a&L.member.10=c&L.member.2=b%26&M.entry.1.key=k&M.entry.1.value=v+w")
	require.NoError(t, err)
	list, err := f.at("L", "member").texts()
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b&", "c"}, list)
	pairs, err := f.at("M", "entry").textMap("key", "value")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"k": "v w"}, pairs)
	require.Nil(t, f.at("nothing", "here"))
}

func TestFormRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"a=1&a=2", "%zz=1", "a=%zz", "a.b.c.d.e.f.g.h.i.j.k.l.m=1"} {
		_, err := parseForm(body)
		require.Error(t, err, body)
	}
	for _, body := range []string{"L.0=a", "L.x=a", "L.01=a", "L.-1=a"} {
		f, err := parseForm(body)
		require.NoError(t, err)
		_, err = f.at("L").list()
		require.Error(t, err, body)
	}
	f, err := parseForm("M.1.key=k&M.1.value=1&M.2.key=k&M.2.value=2&N.1.value=x")
	require.NoError(t, err)
	_, err = f.at("M").textMap("key", "value")
	require.Error(t, err, "the same key twice")
	_, err = f.at("N").textMap("key", "value")
	require.Error(t, err, "no key")
}

func TestDecodeQuery(t *testing.T) {
	t.Parallel()
	f, err := parseForm("QueueUrl=u&SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=m&SendMessageBatchRequestEntry.1.DelaySeconds=0" +
		"&SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Binary" +
		"&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue=AAE%3D")
	require.NoError(t, err)
	var in sendMessageBatchInput
	require.NoError(t, decodeQuery(f, &in))
	require.Equal(t, "u", in.QueueUrl)
	require.Len(t, in.Entries, 1)
	require.Equal(t, "m", in.Entries[0].body())
	require.Zero(t, *in.Entries[0].DelaySeconds)
	require.Equal(t, []byte{0, 1}, in.Entries[0].MessageAttributes["n"].BinaryValue)

	bad, err := parseForm("MaxNumberOfMessages=ten")
	require.NoError(t, err)
	require.Error(t, decodeQuery(bad, &receiveMessageInput{}))
}

func FuzzParseForm(f *testing.F) {
	for _, seed := range []string{"Action=Publish&A.entry.1.key=k", "SendMessageBatchRequestEntry.2.MessageAttribute.1.Value.BinaryValue=AA==", "a=%", "..=1&L.1.2=3"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, body string) {
		form, err := parseForm(body)
		if err != nil {
			return
		}
		_ = decodeQuery(form, &sendMessageBatchInput{})
		_ = decodeQuery(form, &createQueueInput{})
		_, _ = form.at("PublishBatchRequestEntries", "member").list()
		_, _ = readPublication(form)
	})
}
