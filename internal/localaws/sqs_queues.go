package localaws

import (
	"maps"
	"strconv"
	"strings"
	"time"
)

// senderID is the SenderId of every message sent here.
const senderID = "AIDALOCALAWS"

const purgeInterval = 60 * time.Second

// lockedQueue takes the lock and returns the queue of a URL; without such a queue the lock is free again.
func (s *Server) lockedQueue(url string) (*queue, error) {
	if url == "" {
		return nil, missingParameter("QueueUrl")
	}
	s.mu.Lock()
	parts := strings.Split(strings.TrimSuffix(url, "/"), "/")
	if n := len(parts); n >= 2 && parts[n-2] == accountID {
		if q := s.queues[parts[n-1]]; q != nil {
			return q, nil
		}
	}
	s.mu.Unlock()
	return nil, noSuchQueue()
}

func (s *Server) queueByARN(arn string) *queue {
	if q := s.queues[lastPart(arn, ":")]; q != nil && q.arn == arn {
		return q
	}
	return nil
}

func (s *Server) createQueue(_ *call, in *createQueueInput) (*queueURLOutput, error) {
	if !isName(in.QueueName, mostQueueName) {
		return nil, invalidParameterValue("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	fifo := isFIFO(in.QueueName)
	asked := maps.Clone(in.Attributes)
	if value, set := asked["FifoQueue"]; set && (value != "true" || !fifo) {
		return nil, invalidParameterValue("Unknown value for FifoQueue: it must be true, and only for a queue whose name ends with .fifo.")
	} else if fifo && !set {
		return nil, invalidParameterValue("The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length; the FifoQueue attribute must be true.")
	}
	delete(asked, "FifoQueue")
	settings, err := queueSettings{}.merge(asked, fifo)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[in.QueueName]; q != nil {
		return q.createdAgain(asked)
	}
	arn := s.queueARN(in.QueueName)
	if err := s.checkRedriveTarget(arn, fifo, settings); err != nil {
		return nil, err
	}
	q := newQueue(in.QueueName, arn, s.queueURL(in.QueueName), settings, s.now())
	q.tags = maps.Clone(in.Tags)
	s.queues[in.QueueName] = q
	return &queueURLOutput{QueueUrl: q.url}, nil
}

// createdAgain answers with the queue that is there, if it has the attributes asked for.
func (q *queue) createdAgain(asked map[string]string) (*queueURLOutput, error) {
	for _, name := range sortedKeys(asked) {
		if q.settings.raw[name] != asked[name] {
			return nil, sqsError("QueueNameExists", "A queue already exists with the same name and a different value for attribute %s", name)
		}
	}
	return &queueURLOutput{QueueUrl: q.url}, nil
}

func (s *Server) checkRedriveTarget(source string, fifo bool, settings queueSettings) error {
	if settings.redrive == nil {
		return nil
	}
	target := s.queueByARN(settings.redrive.target)
	switch {
	case settings.redrive.target == source:
		return badRedrive("A queue cannot be its own dead letter queue")
	case target == nil:
		return badRedrive("Dead letter target does not exist")
	case target.fifo != fifo:
		return badRedrive("The dead letter queue must be of the same type as its source")
	case !target.settings.allow.allows(source):
		return badRedrive("The dead letter queue does not allow this source queue")
	}
	return nil
}

func (s *Server) deleteQueue(_ *call, in *queueURLInput) (*nothing, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	delete(s.queues, q.name)
	q.signal()
	return nil, nil
}

func (s *Server) getQueueURL(_ *call, in *getQueueURLInput) (*queueURLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[in.QueueName]
	if q == nil || in.QueueOwnerAWSAccountId != "" && in.QueueOwnerAWSAccountId != accountID {
		return nil, noSuchQueue()
	}
	return &queueURLOutput{QueueUrl: q.url}, nil
}

func (s *Server) listQueues(_ *call, in *listQueuesInput) (*listQueuesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	urls, next, err := s.pageOfQueues(func(q *queue) bool { return strings.HasPrefix(q.name, in.QueueNamePrefix) }, in.NextToken, in.MaxResults)
	return &listQueuesOutput{QueueUrls: urls, NextToken: next}, err
}

func (s *Server) listSources(_ *call, in *listSourcesInput) (*listSourcesOutput, error) {
	dlq, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	urls, next, err := s.pageOfQueues(func(q *queue) bool { return q.deadLettersTo(dlq.arn) }, in.NextToken, in.MaxResults)
	return &listSourcesOutput{QueueUrls: urls, NextToken: next}, err
}

func (q *queue) deadLettersTo(arn string) bool {
	return q.settings.redrive != nil && q.settings.redrive.target == arn
}

func (s *Server) pageOfQueues(wanted func(*queue) bool, token string, size *int) ([]string, string, error) {
	if size != nil && (*size < 1 || *size > 1000) {
		return nil, "", invalidParameterValue("Value for parameter MaxResults is invalid. Reason: Must be an integer from 1 to 1000.")
	}
	urls := []string{}
	for _, name := range sortedKeys(s.queues) {
		if q := s.queues[name]; wanted(q) {
			urls = append(urls, q.url)
		}
	}
	most := 1000
	if size != nil {
		most = *size
	}
	got, next, err := page(urls, token, most)
	if err != nil {
		return nil, "", invalidParameterValue("Invalid or expired next token.")
	}
	return got, next, nil
}

func (s *Server) getQueueAttributes(_ *call, in *getAttributesInput) (*attributesOutput, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	q.advance(s.now())
	all := q.attributes()
	out := &attributesOutput{Attributes: map[string]string{}}
	for _, name := range in.AttributeNames {
		switch {
		case name == "All":
			maps.Copy(out.Attributes, all)
		case all[name] != "":
			out.Attributes[name] = all[name]
		case !isPolicyAttribute(name) && checkSettable(name, true) != nil && !oneOf(name, "FifoQueue", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"):
			return nil, sqsError("InvalidAttributeName", "Unknown Attribute %s.", clip(name))
		}
	}
	return out, nil
}

func (q *queue) attributes() map[string]string {
	all := maps.Clone(q.settings.raw)
	all["QueueArn"] = q.arn
	all["CreatedTimestamp"] = strconv.FormatInt(q.created.Unix(), 10)
	all["LastModifiedTimestamp"] = strconv.FormatInt(q.modified.Unix(), 10)
	all["ApproximateNumberOfMessages"] = strconv.Itoa(q.visible())
	all["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(q.inFlight)
	all["ApproximateNumberOfMessagesDelayed"] = strconv.Itoa(q.delayed)
	if q.fifo {
		all["FifoQueue"] = "true"
	}
	return all
}

func (s *Server) setQueueAttributes(_ *call, in *setAttributesInput) (*nothing, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if len(in.Attributes) == 0 {
		return nil, missingParameter("Attributes")
	}
	asked := maps.Clone(in.Attributes)
	if q.fifo && asked["FifoQueue"] == "true" {
		delete(asked, "FifoQueue")
	}
	settings, err := q.settings.merge(asked, q.fifo)
	if err != nil {
		return nil, err
	}
	if _, changed := asked["RedrivePolicy"]; changed {
		if err := s.checkRedriveTarget(q.arn, q.fifo, settings); err != nil {
			return nil, err
		}
	}
	q.settings, q.modified = settings, s.now()
	q.signal()
	return nil, nil
}

func (s *Server) purgeQueue(_ *call, in *queueURLInput) (*nothing, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	now := s.now()
	if !q.purged.IsZero() && now.Sub(q.purged) < purgeInterval {
		return nil, sqsError("PurgeQueueInProgress", "Only one PurgeQueue operation on %s is allowed every 60 seconds.", q.name)
	}
	q.purge(now)
	return nil, nil
}

func (s *Server) tagQueue(_ *call, in *tagQueueInput) (*nothing, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if q.tags == nil {
		q.tags = map[string]string{}
	}
	maps.Copy(q.tags, in.Tags)
	return nil, nil
}

func (s *Server) untagQueue(_ *call, in *untagQueueInput) (*nothing, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	for _, key := range in.TagKeys {
		delete(q.tags, key)
	}
	return nil, nil
}

func (s *Server) listQueueTags(_ *call, in *queueURLInput) (*tagsOutput, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return &tagsOutput{Tags: maps.Clone(q.tags)}, nil
}
