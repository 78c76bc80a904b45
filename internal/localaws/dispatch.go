package localaws

import (
	"bytes"
	"encoding/json"
	"net/http"
)

const (
	serviceSNS = "sns"
	serviceSQS = "sqs"
	serviceSES = "ses"
	serviceSTS = "sts"

	namespaceSNS = "http://sns.amazonaws.com/doc/2010-03-31/"
	namespaceSQS = "http://queue.amazonaws.com/doc/2012-11-05/"
	namespaceSTS = "https://sts.amazonaws.com/doc/2011-06-15/"
)

// perform carries a call out.
func (s *Server) perform(c *call) answer {
	switch c.service {
	case serviceSQS:
		return s.performSQS(c)
	case serviceSES:
		return s.performSES(c)
	}
	return s.performForm(c)
}

func unknownAction(c *call) *apiError {
	return refuse("InvalidAction", "The action %s is not valid for this endpoint of %s, or the stand-in does not know it.", clip(c.action), c.service)
}

// refusal is an answer in the protocol of the call.
func (c *call) refusal(err error) answer {
	e := asAPIError(err)
	a := answer{status: e.httpStatus(), err: e, contentType: "text/xml"}
	switch {
	case c.service == serviceSES:
		a.contentType, a.body = "application/json", jsonBody(map[string]string{"message": e.message})
	case c.json:
		a.contentType = jsonType
		a.body = jsonBody(map[string]string{"__type": "com.amazonaws.sqs#" + e.code, "message": e.message})
	default:
		a.body = queryError(c.namespace(), c.id, e)
	}
	return a
}

const jsonType = "application/x-amz-json-1.0"

func (c *call) namespace() string {
	switch c.service {
	case serviceSQS:
		return namespaceSQS
	case serviceSTS:
		return namespaceSTS
	}
	return namespaceSNS
}

// formReply writes the result of an action of the query protocol; nil where it has none.
type formReply func(*xmlWriter)

type formAction func(*Server, *call, *form) (formReply, error)

func (s *Server) formActions(service string) map[string]formAction {
	if service == serviceSTS {
		return map[string]formAction{"GetCallerIdentity": (*Server).getCallerIdentity}
	}
	return snsActions
}

func (s *Server) performForm(c *call) answer {
	action := s.formActions(c.service)[c.action]
	if action == nil {
		return c.refusal(unknownAction(c))
	}
	reply, err := action(s, c, c.form)
	if err != nil {
		return c.refusal(err)
	}
	return answer{status: http.StatusOK, contentType: "text/xml", body: queryAnswer(c.namespace(), c.action, c.id, reply)}
}

func (s *Server) getCallerIdentity(*call, *form) (formReply, error) {
	return func(w *xmlWriter) {
		w.text("Arn", "arn:aws:iam::"+accountID+":root")
		w.text("UserId", senderID)
		w.text("Account", accountID)
	}, nil
}

// sqsAction runs an action whose input decode fills in.
type sqsAction func(s *Server, c *call, decode func(into any) error) (any, error)

func sqsHandler[In, Out any](run func(*Server, *call, *In) (*Out, error)) sqsAction {
	return func(s *Server, c *call, decode func(any) error) (any, error) {
		in := new(In)
		if err := decode(in); err != nil {
			return nil, err
		}
		out, err := run(s, c, in)
		if err != nil {
			return nil, err
		}
		if out == nil {
			return nothing{}, nil
		}
		return out, nil
	}
}

var sqsActions = map[string]sqsAction{
	"CreateQueue":                  sqsHandler((*Server).createQueue),
	"DeleteQueue":                  sqsHandler((*Server).deleteQueue),
	"GetQueueUrl":                  sqsHandler((*Server).getQueueURL),
	"ListQueues":                   sqsHandler((*Server).listQueues),
	"GetQueueAttributes":           sqsHandler((*Server).getQueueAttributes),
	"SetQueueAttributes":           sqsHandler((*Server).setQueueAttributes),
	"PurgeQueue":                   sqsHandler((*Server).purgeQueue),
	"TagQueue":                     sqsHandler((*Server).tagQueue),
	"UntagQueue":                   sqsHandler((*Server).untagQueue),
	"ListQueueTags":                sqsHandler((*Server).listQueueTags),
	"ListDeadLetterSourceQueues":   sqsHandler((*Server).listSources),
	"SendMessage":                  sqsHandler((*Server).sendMessage),
	"SendMessageBatch":             sqsHandler((*Server).sendMessageBatch),
	"ReceiveMessage":               sqsHandler((*Server).receiveMessage),
	"DeleteMessage":                sqsHandler((*Server).deleteMessage),
	"DeleteMessageBatch":           sqsHandler((*Server).deleteMessageBatch),
	"ChangeMessageVisibility":      sqsHandler((*Server).changeVisibility),
	"ChangeMessageVisibilityBatch": sqsHandler((*Server).changeVisibilityBatch),
	"StartMessageMoveTask":         sqsHandler((*Server).startMove),
	"CancelMessageMoveTask":        sqsHandler((*Server).cancelMove),
	"ListMessageMoveTasks":         sqsHandler((*Server).listMoves),
}

func (s *Server) performSQS(c *call) answer {
	action := sqsActions[c.action]
	if action == nil {
		return c.refusal(unknownAction(c))
	}
	out, err := action(s, c, c.decodeSQS)
	if err != nil {
		return c.refusal(err)
	}
	if c.json {
		return answer{status: http.StatusOK, contentType: jsonType, body: jsonBody(out)}
	}
	var reply formReply
	if _, empty := out.(nothing); !empty {
		reply = func(w *xmlWriter) { encodeQuery(w, out) }
	}
	return answer{status: http.StatusOK, contentType: "text/xml", body: queryAnswer(namespaceSQS, c.action, c.id, reply)}
}

// decodeSQS reads an action's input in either protocol.
func (c *call) decodeSQS(into any) error {
	if !c.json {
		if c.form.at("QueueUrl") == nil && c.queuePath != "" {
			if err := c.form.put("QueueUrl", c.queueURLOf()); err != nil {
				return refuse("MalformedQueryString", "%s", err)
			}
		}
		if err := decodeQuery(c.form, into); err != nil {
			return refuse("MalformedInput", "%s", err)
		}
		return nil
	}
	if err := json.Unmarshal(c.body, into); err != nil {
		return refuse("SerializationException", "%s", err)
	}
	return nil
}

// jsonBody leaves <, > and & as they are, as the services do.
func jsonBody(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // only maps and structs of plain values are passed
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
