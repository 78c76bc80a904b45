package localaws

// The shapes of the SQS API under the names of the JSON protocol. Where the older query protocol has another name, the
// query tag holds it; for a map it also holds the names of key and value.

type wireAttribute struct {
	StringValue string `json:",omitempty"`
	BinaryValue []byte `json:",omitempty"`
	DataType    string
}

type sendFields struct {
	MessageBody             *string
	DelaySeconds            *int
	MessageAttributes       map[string]wireAttribute `query:"MessageAttribute,Name,Value"`
	MessageSystemAttributes map[string]wireAttribute `query:"MessageSystemAttribute,Name,Value"`
	MessageDeduplicationId  string
	MessageGroupId          string
}

type sent struct {
	MD5OfMessageBody             string
	MD5OfMessageAttributes       string `json:",omitempty"`
	MD5OfMessageSystemAttributes string `json:",omitempty"`
	MessageId                    string
	SequenceNumber               string `json:",omitempty"`
}

type sendMessageInput struct {
	QueueUrl string
	sendFields
}

type sendMessageBatchInput struct {
	QueueUrl string
	Entries  []sendEntry `query:"SendMessageBatchRequestEntry"`
}

type sendEntry struct {
	Id string
	sendFields
}

func (e sendEntry) batchID() string { return e.Id }

type sendMessageBatchOutput struct {
	Successful []sentEntry   `query:"SendMessageBatchResultEntry"`
	Failed     []failedEntry `json:",omitempty" query:"BatchResultErrorEntry"`
}

type sentEntry struct {
	Id string
	sent
}

type failedEntry struct {
	Id          string
	Code        string
	Message     string
	SenderFault bool
}

type receiveMessageInput struct {
	QueueUrl                    string
	AttributeNames              []string `query:"AttributeName"`
	MessageSystemAttributeNames []string `query:"MessageSystemAttributeName"`
	MessageAttributeNames       []string `query:"MessageAttributeName"`
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
	ReceiveRequestAttemptId     string
}

type receiveMessageOutput struct {
	Messages []receivedMessage `json:",omitempty" query:"Message"`
}

type receivedMessage struct {
	MessageId              string
	ReceiptHandle          string
	MD5OfBody              string
	Body                   string
	Attributes             map[string]string        `json:",omitempty" query:"Attribute,Name,Value"`
	MD5OfMessageAttributes string                   `json:",omitempty"`
	MessageAttributes      map[string]wireAttribute `json:",omitempty" query:"MessageAttribute,Name,Value"`
}

type deleteMessageInput struct {
	QueueUrl      string
	ReceiptHandle string
}

type deleteMessageBatchInput struct {
	QueueUrl string
	Entries  []handleEntry `query:"DeleteMessageBatchRequestEntry"`
}

type deleteMessageBatchOutput struct {
	Successful []idEntry     `query:"DeleteMessageBatchResultEntry"`
	Failed     []failedEntry `json:",omitempty" query:"BatchResultErrorEntry"`
}

type changeVisibilityInput struct {
	QueueUrl string
	handleFields
}

type changeVisibilityBatchInput struct {
	QueueUrl string
	Entries  []handleEntry `query:"ChangeMessageVisibilityBatchRequestEntry"`
}

type changeVisibilityBatchOutput struct {
	Successful []idEntry     `query:"ChangeMessageVisibilityBatchResultEntry"`
	Failed     []failedEntry `json:",omitempty" query:"BatchResultErrorEntry"`
}

type handleFields struct {
	ReceiptHandle     string
	VisibilityTimeout *int
}

type handleEntry struct {
	Id string
	handleFields
}

func (e handleEntry) batchID() string { return e.Id }

type idEntry struct{ Id string }

type createQueueInput struct {
	QueueName  string
	Attributes map[string]string `query:"Attribute,Name,Value"`
	Tags       map[string]string `json:"tags" query:"Tag,Key,Value"`
}

type queueURLOutput struct{ QueueUrl string }

type queueURLInput struct{ QueueUrl string }

type getQueueURLInput struct {
	QueueName              string
	QueueOwnerAWSAccountId string
}

type listQueuesInput struct {
	QueueNamePrefix string
	NextToken       string
	MaxResults      *int
}

type listQueuesOutput struct {
	QueueUrls []string `json:",omitempty" query:"QueueUrl"`
	NextToken string   `json:",omitempty"`
}

type listSourcesInput struct {
	QueueUrl   string
	NextToken  string
	MaxResults *int
}

type listSourcesOutput struct {
	QueueUrls []string `json:"queueUrls" query:"QueueUrl"`
	NextToken string   `json:",omitempty"`
}

type getAttributesInput struct {
	QueueUrl       string
	AttributeNames []string `query:"AttributeName"`
}

type attributesOutput struct {
	Attributes map[string]string `json:",omitempty" query:"Attribute,Name,Value"`
}

type setAttributesInput struct {
	QueueUrl   string
	Attributes map[string]string `query:"Attribute,Name,Value"`
}

type tagQueueInput struct {
	QueueUrl string
	Tags     map[string]string `query:"Tag,Key,Value"`
}

type untagQueueInput struct {
	QueueUrl string
	TagKeys  []string `query:"TagKey"`
}

type tagsOutput struct {
	Tags map[string]string `json:",omitempty" query:"Tag,Key,Value"`
}

type startMoveInput struct {
	SourceArn                    string
	DestinationArn               string
	MaxNumberOfMessagesPerSecond *int
}

type startMoveOutput struct{ TaskHandle string }

type cancelMoveInput struct{ TaskHandle string }

type cancelMoveOutput struct{ ApproximateNumberOfMessagesMoved int64 }

type listMovesInput struct {
	SourceArn  string
	MaxResults *int
}

type listMovesOutput struct {
	Results []moveResult `query:"ListMessageMoveTasksResultEntry"`
}

type moveResult struct {
	TaskHandle                        string `json:",omitempty"`
	Status                            string
	SourceArn                         string
	DestinationArn                    string `json:",omitempty"`
	MaxNumberOfMessagesPerSecond      int    `json:",omitempty"`
	ApproximateNumberOfMessagesMoved  int64
	ApproximateNumberOfMessagesToMove int64
	FailureReason                     string `json:",omitempty"`
	StartedTimestamp                  int64
}

// nothing is the answer of an action that has none.
type nothing struct{}
