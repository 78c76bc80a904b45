package localaws

import "time"

func (s *Server) deleteMessage(_ *call, in *deleteMessageInput) (*nothing, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return nil, s.deleteByHandle(q, in.ReceiptHandle)
}

func (s *Server) deleteByHandle(q *queue, handle string) error {
	if handle == "" {
		return missingParameter("ReceiptHandle")
	}
	return q.delete(s.now(), handle)
}

func (s *Server) deleteMessageBatch(c *call, in *deleteMessageBatchInput) (*deleteMessageBatchOutput, error) {
	done, failed, err := s.eachHandle(c, in.QueueUrl, in.Entries, func(q *queue, e handleEntry) error {
		return s.deleteByHandle(q, e.ReceiptHandle)
	})
	return &deleteMessageBatchOutput{Successful: done, Failed: failed}, err
}

func (s *Server) changeVisibility(_ *call, in *changeVisibilityInput) (*nothing, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return nil, s.changeByHandle(q, in.handleFields)
}

func (s *Server) changeByHandle(q *queue, f handleFields) error {
	if f.ReceiptHandle == "" {
		return missingParameter("ReceiptHandle")
	}
	if f.VisibilityTimeout == nil {
		return missingParameter("VisibilityTimeout")
	}
	var visibility time.Duration
	if err := secondsOr(&visibility, f.VisibilityTimeout, 43200, "VisibilityTimeout"); err != nil {
		return err
	}
	return q.changeVisibility(s.now(), f.ReceiptHandle, visibility)
}

func (s *Server) changeVisibilityBatch(c *call, in *changeVisibilityBatchInput) (*changeVisibilityBatchOutput, error) {
	done, failed, err := s.eachHandle(c, in.QueueUrl, in.Entries, func(q *queue, e handleEntry) error {
		return s.changeByHandle(q, e.handleFields)
	})
	return &changeVisibilityBatchOutput{Successful: done, Failed: failed}, err
}

// eachHandle runs one entry after the other; an entry that fails does not stop the rest.
func (s *Server) eachHandle(c *call, url string, entries []handleEntry, run func(*queue, handleEntry) error) ([]idEntry, []failedEntry, error) {
	q, err := s.lockedQueue(url)
	if err != nil {
		return nil, nil, err
	}
	defer s.mu.Unlock()
	if err := checkSQSBatch(entries, handleEntry.batchID); err != nil {
		return nil, nil, err
	}
	done, failed := []idEntry{}, []failedEntry(nil)
	for _, e := range entries {
		err := c.entryError(e.Id, nil)
		if err == nil {
			err = run(q, e)
		}
		if err != nil {
			failed = append(failed, failure(e.Id, err))
			continue
		}
		done = append(done, idEntry{Id: e.Id})
	}
	return done, failed, nil
}
