package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// chunkEvents is how many changes the reader gathers at most before it hands
// them on; the ledger is asked for as many ids at once.
const chunkEvents = 1000

// stream owns the replication connection: only its goroutine touches it. Staying
// alive never depends on reading: while there is no room in the window, and
// while the last batches finish, a status still goes out on the timer.
type stream struct {
	conn      *pgconn.PgConn
	gatherer  *gatherer // beneath conn
	window    *window
	decoder   *decoder
	out       chan<- []change
	confirmed func() pglogrepl.LSN
	every     time.Duration // between statuses
	metrics   *metrics

	chunk    []change
	statusAt time.Time // when the next one is due
}

// openStream connects for replication. wal_sender_timeout is set for this
// connection only.
func openStream(ctx context.Context, cfg Config) (*pgconn.PgConn, *gatherer, error) {
	pool, err := parseDSN(cfg.DSN)
	if err != nil {
		return nil, nil, err
	}
	pc := &pool.ConnConfig.Config
	var g *gatherer
	dial := pc.DialFunc
	pc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// Silence says nothing: the server may decode for long. But it takes our statuses.
		if err := giveUpAfter(conn, cfg.SenderTimeout); err != nil {
			conn.Close()
			return nil, err
		}
		g = newGatherer(conn)
		return g, nil
	}
	pc.RuntimeParams["replication"] = "database"
	pc.RuntimeParams["application_name"] = cfg.Slot
	pc.RuntimeParams["wal_sender_timeout"] = fmt.Sprintf("%dms", cfg.SenderTimeout.Milliseconds())
	noticeDeadPeers(pc, cfg.SenderTimeout)
	// While nothing is read for want of room, no byte is acknowledged for as long as
	// that takes, and the server's kernel would take us for dead. wal_sender_timeout
	// knows better: it counts our statuses.
	delete(pc.RuntimeParams, "tcp_user_timeout")
	conn, err := pgconn.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, nil, fmt.Errorf("connect for replication: %w", err)
	}
	g.readInBursts()
	return conn, g, nil
}

// connectTimeout bounds the making of a connection and each question asked on it
// before the stream starts.
const connectTimeout = 15 * time.Second

// noticeDeadPeers makes both ends let go of a connection whose other end is gone
// without a word, within about the given time; TCP alone takes hours.
// https://www.postgresql.org/docs/15/runtime-config-connection.html
func noticeDeadPeers(pc *pgconn.Config, within time.Duration) {
	pc.ConnectTimeout = connectTimeout
	pc.RuntimeParams["tcp_keepalives_idle"] = strconv.Itoa(max(1, int(within.Seconds()/3)))
	pc.RuntimeParams["tcp_keepalives_interval"] = strconv.Itoa(max(1, int(within.Seconds()/6)))
	pc.RuntimeParams["tcp_keepalives_count"] = "4"
	pc.RuntimeParams["tcp_user_timeout"] = strconv.FormatInt(within.Milliseconds(), 10)
}

// startStream starts replication at what the slot has confirmed.
func startStream(ctx context.Context, conn *pgconn.PgConn, cfg Config, l *ledger, f found) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := l.begin(ctx, f.slot.confirmed, f.publication); err != nil {
		return err
	}
	// A list of identifiers in a string: unquoted, its names are folded to lower case.
	publications := strings.ReplaceAll(pgx.Identifier{cfg.Publication}.Sanitize(), "'", "''")
	// Unquoted, a name that begins with a digit is no name.
	err := pglogrepl.StartReplication(ctx, conn, pgx.Identifier{cfg.Slot}.Sanitize(), f.slot.confirmed, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "messages 'true'", "publication_names '" + publications + "'"},
	})
	if err != nil {
		return fmt.Errorf("start replication on slot %s: %w", cfg.Slot, err)
	}
	return nil
}

// closeNow drops the connection without waiting for the server's goodbye.
func closeNow(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // it is being thrown away
}

// run owns the connection from its first message to its end. Told to stop by
// ctx, it stays alive until the last batches are recorded, confirms them and ends
// the copy. When anything else ends live, it closes at once: Postgres may be
// waiting for exactly that.
func (s *stream) run(live, ctx context.Context, lost, drained <-chan struct{}) error {
	defer closeNow(s.conn)
	err := s.read(live)
	close(s.out)
	if ctx.Err() == nil || isClosed(lost) {
		if cause := context.Cause(live); cause != nil {
			return cause
		}
		return err
	}
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() {
		select {
		case <-lost:
			cancel()
		case <-waiting.Done():
		}
	}()
	if err := s.waitFor(waiting, drained); err != nil {
		return err
	}
	return s.finish(5 * time.Second)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// read hands on changes until ctx ends, which is no error, or the connection
// fails.
func (s *stream) read(ctx context.Context) error {
	conn := s.conn.Conn()
	// A deadline is what wakes a read, for a status or for the end.
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		if err := s.statusIfDue(); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(s.statusAt); err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if ctx.Err() != nil { // looked at after the deadline was set, which may have undone the one that wakes
			return nil
		}
		if err := s.receive(ctx); err != nil {
			return err
		}
	}
}

// receive handles messages until a deadline passes, or nothing waits and the next
// status is due.
func (s *stream) receive(ctx context.Context) error {
	for {
		message, err := s.conn.Frontend().Receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("read the stream: %w", err)
		}
		if err := s.handle(ctx, message); err != nil {
			return err
		}
		idle := s.gatherer.empty() && s.conn.Frontend().ReadBufferLen() == 0
		if idle || len(s.chunk) >= chunkEvents {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
		if idle && !time.Now().Before(s.statusAt) {
			return nil
		}
	}
}

func (s *stream) handle(ctx context.Context, message pgproto3.BackendMessage) error {
	switch m := message.(type) {
	case *pgproto3.CopyData:
		s.gatherer.messages.Add(1)
		return s.copyData(ctx, m.Data)
	case *pgproto3.ErrorResponse:
		return asStale(fmt.Errorf("read the stream: %w", pgconn.ErrorResponseToPgError(m)))
	case *pgproto3.CopyDone:
		return errors.New("read the stream: the server ended it")
	default:
		return nil
	}
}

func (s *stream) copyData(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return errors.New("read the stream: empty message")
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("read a keepalive: %w", err)
		}
		s.chunk = append(s.chunk, change{kind: changeIdle, lsn: k.ServerWALEnd})
		if k.ReplyRequested {
			s.statusAt = time.Time{}
			return s.statusIfDue()
		}
		return nil
	case pglogrepl.XLogDataByteID:
		if len(data) < xLogDataHeader {
			return errors.New("read stream data: it is cut short")
		}
		c, err := s.decoder.decode(data[xLogDataHeader:])
		if err != nil {
			return asStale(err)
		}
		return s.keep(ctx, c)
	default:
		return fmt.Errorf("read the stream: unknown message %q", data[0])
	}
}

// xLogDataHeader is the kind, the WAL's start and end, and the server's clock.
// https://www.postgresql.org/docs/15/protocol-replication.html
const xLogDataHeader = 1 + 8 + 8 + 8

// keep adds c to the chunk, waiting for room in the window if it is an event.
func (s *stream) keep(ctx context.Context, c change) error {
	switch c.kind {
	case changeNothing:
		return nil
	case changeForeign:
		s.metrics.foreign.Inc()
		return nil
	case changeEvent:
		s.metrics.read.Inc()
		if err := s.makeRoom(ctx, c.entry.memory); err != nil {
			return err
		}
	}
	s.chunk = append(s.chunk, c)
	return nil
}

func (s *stream) makeRoom(ctx context.Context, bytes int) error {
	for !s.window.acquire(bytes) {
		// What waits in the chunk must get out, or nothing will ever free room.
		if err := s.flush(ctx); err != nil {
			return err
		}
		if err := s.waitFor(ctx, s.window.freed); err != nil {
			return err
		}
	}
	return nil
}

// flush hands the chunk on.
func (s *stream) flush(ctx context.Context) error {
	for len(s.chunk) > 0 {
		timer := time.NewTimer(time.Until(s.statusAt))
		select {
		case s.out <- s.chunk:
			s.chunk = make([]change, 0, len(s.chunk)) // the next is likely to be as long
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
		if err := s.statusIfDue(); err != nil {
			return err
		}
	}
	return nil
}

// waitFor returns when the channel has something or is closed, with statuses
// going out meanwhile.
func (s *stream) waitFor(ctx context.Context, something <-chan struct{}) error {
	for {
		if err := s.statusIfDue(); err != nil {
			return err
		}
		timer := time.NewTimer(time.Until(s.statusAt))
		select {
		case <-something:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

func (s *stream) statusIfDue() error {
	now := time.Now()
	if now.Before(s.statusAt) {
		return nil
	}
	s.statusAt = now.Add(s.every)
	return s.status()
}

// status confirms. Every position in it is the confirmed one: a zero flush
// position would be filled in from the write position.
func (s *stream) status() error {
	if err := s.conn.Conn().SetWriteDeadline(time.Now().Add(s.every + 10*time.Second)); err != nil {
		return fmt.Errorf("send a status: %w", err)
	}
	lsn := s.confirmed()
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: lsn, WALFlushPosition: lsn, WALApplyPosition: lsn,
	})
	if err != nil {
		return fmt.Errorf("send a status: %w", err)
	}
	s.metrics.confirmed.Set(float64(lsn))
	return nil
}

// finish confirms for the last time and ends the copy, so that the server has
// taken the position before the connection goes.
func (s *stream) finish(timeout time.Duration) error {
	if err := s.status(); err != nil {
		return err
	}
	if err := s.conn.Conn().SetDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("end replication: %w", err)
	}
	s.conn.Frontend().Send(&pgproto3.CopyDone{})
	if err := s.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("end replication: %w", err)
	}
	for {
		message, err := s.conn.Frontend().Receive()
		if err != nil {
			return fmt.Errorf("end replication: %w", err)
		}
		if _, ok := message.(*pgproto3.CopyDone); ok {
			return nil
		}
	}
}
