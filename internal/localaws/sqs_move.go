package localaws

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"
)

const (
	moveRunning   = "RUNNING"
	moveCompleted = "COMPLETED"
	moveCancelled = "CANCELLED"
	moveFailed    = "FAILED"
	moveChunk     = 100 // messages moved under one hold of the lock
)

// moveTask sends the messages of a dead-letter queue back, in a goroutine of its own as AWS does.
type moveTask struct {
	id          string
	source      string
	destination string // empty: to the queue each message came from
	rate        int    // messages a second; 0: as fast as it goes
	status      string
	reason      string
	moved       int64
	toMove      int64
	started     time.Time
	cancel      chan struct{}
}

func (t *moveTask) handle() string {
	raw, _ := json.Marshal(map[string]string{"taskId": t.id, "sourceArn": t.source}) // strings always marshal
	return base64.StdEncoding.EncodeToString(raw)
}

func (s *Server) startMove(_ *call, in *startMoveInput) (*startMoveOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	task, err := s.newMoveTask(in)
	if err != nil {
		return nil, err
	}
	s.moves = append(s.moves, task)
	if !s.spawn(func() { s.runMove(task) }) {
		return nil, asAPIError(http.ErrServerClosed)
	}
	return &startMoveOutput{TaskHandle: task.handle()}, nil
}

func (s *Server) newMoveTask(in *startMoveInput) (*moveTask, error) {
	source := s.queueByARN(in.SourceArn)
	if source == nil {
		return nil, noMoveResource("The resource that you specified for the SourceArn parameter doesn't exist.")
	}
	if !s.isDeadLetterQueue(source) {
		return nil, invalidParameterValue("Source queue must be configured as a Dead Letter Queue.")
	}
	if in.DestinationArn != "" {
		destination := s.queueByARN(in.DestinationArn)
		if destination == nil {
			return nil, noMoveResource("The resource that you specified for the DestinationArn parameter doesn't exist.")
		}
		if destination == source || destination.fifo != source.fifo {
			return nil, invalidParameterValue("Source queue and destination queue must differ and be of one type.")
		}
	}
	rate := 0
	if in.MaxNumberOfMessagesPerSecond != nil {
		if rate = *in.MaxNumberOfMessagesPerSecond; rate < 1 || rate > 500 {
			return nil, invalidParameterValue("Value %d for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: You must enter a value that's between 1 and 500.", rate)
		}
	}
	for _, t := range s.moves {
		if t.source == source.arn && t.status == moveRunning {
			return nil, sqsError("UnsupportedOperation", "There is already a task running. Only one active task is allowed for a source queue arn at a given time.")
		}
	}
	now := s.now()
	source.advance(now)
	return &moveTask{
		id: uuid.NewString(), source: source.arn, destination: in.DestinationArn, rate: rate, status: moveRunning,
		toMove: int64(source.visible()), started: now, cancel: make(chan struct{}),
	}, nil
}

func noMoveResource(message string) error {
	return &apiError{code: "ResourceNotFoundException", message: message, status: http.StatusNotFound}
}

// isDeadLetterQueue tells whether some queue names it as its dead-letter queue. Being that of a subscription does not count.
func (s *Server) isDeadLetterQueue(dlq *queue) bool {
	for _, q := range s.queues {
		if q.deadLettersTo(dlq.arn) {
			return true
		}
	}
	return false
}

func (s *Server) runMove(t *moveTask) {
	chunk, pause := moveChunk, time.Duration(0)
	if t.rate > 0 {
		chunk, pause = 1, time.Second/time.Duration(t.rate)
	}
	for s.moveSome(t, chunk) {
		select {
		case <-time.After(pause):
		case <-t.cancel:
			return
		case <-s.closing:
			return
		}
	}
}

// moveSome moves up to n messages and tells whether there may be more.
func (s *Server) moveSome(t *moveTask, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := s.queueByARN(t.source)
	if source == nil || t.status != moveRunning {
		return false
	}
	now := s.now()
	source.advance(now)
	for range n {
		m := source.nextVisible()
		// Bounded by what was there at the start: a destination may dead-letter into the source meanwhile.
		if m == nil || t.moved >= t.toMove {
			t.status = moveCompleted
			return false
		}
		to := s.queueByARN(cmp.Or(t.destination, m.deadFrom))
		if to == nil {
			t.status, t.reason = moveFailed, "CouldNotDetermineMessageSource"
			return false
		}
		source.remove(m)
		to.readmit(now, m)
		t.moved++
	}
	return true
}

// readmit takes a message back from a dead-letter queue. It counts as a new one: new id, new deduplication id, new times.
func (q *queue) readmit(now time.Time, m *message) {
	fresh := &message{newMessage: m.newMessage, id: uuid.NewString(), sent: now, retainedFrom: now}
	if q.fifo {
		fresh.dedup = uuid.NewString()
	}
	q.insert(fresh, now, q.settings.delay)
}

func (s *Server) cancelMove(_ *call, in *cancelMoveInput) (*cancelMoveOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.moves {
		if t.handle() != in.TaskHandle {
			continue
		}
		if t.status != moveRunning {
			return nil, sqsError("UnsupportedOperation", "Only tasks in RUNNING status can be cancelled.")
		}
		t.status = moveCancelled
		close(t.cancel)
		return &cancelMoveOutput{ApproximateNumberOfMessagesMoved: t.moved}, nil
	}
	return nil, noMoveResource("Task does not exist.")
}

func (s *Server) listMoves(_ *call, in *listMovesInput) (*listMovesOutput, error) {
	most := 1
	if in.MaxResults != nil {
		if most = *in.MaxResults; most < 1 || most > 10 {
			return nil, invalidParameterValue("Value %d for parameter MaxResults is invalid. Reason: Must be between 1 and 10, if provided.", most)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queueByARN(in.SourceArn) == nil {
		return nil, noMoveResource("The resource that you specified for the SourceArn parameter doesn't exist.")
	}
	out := &listMovesOutput{Results: []moveResult{}}
	for i := len(s.moves) - 1; i >= 0 && len(out.Results) < most; i-- {
		if t := s.moves[i]; t.source == in.SourceArn {
			out.Results = append(out.Results, t.result())
		}
	}
	return out, nil
}

func (t *moveTask) result() moveResult {
	r := moveResult{
		Status: t.status, SourceArn: t.source, DestinationArn: t.destination, MaxNumberOfMessagesPerSecond: t.rate,
		ApproximateNumberOfMessagesMoved: t.moved, ApproximateNumberOfMessagesToMove: t.toMove,
		FailureReason: t.reason, StartedTimestamp: t.started.UnixMilli(),
	}
	if t.status == moveRunning {
		r.TaskHandle = t.handle()
	}
	return r
}
