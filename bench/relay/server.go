package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// serverTime is the processor time that the postmaster with this process id and its
// children have used, also those that are gone; 0 where there is no /proc.
// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
func serverTime(postmaster int) (time.Duration, error) {
	busy, err := serverTimeNow(postmaster)
	for err == nil {
		before := busy
		time.Sleep(5 * tick)
		// One that ends amid the reading is missed or counted twice.
		if busy, err = serverTimeNow(postmaster); busy >= before && busy <= before+tick {
			break
		}
	}
	return busy, err
}

func serverTimeNow(postmaster int) (busy time.Duration, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended since
		}
		if err != nil {
			return 0, err
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		var parent, skip int64
		var state string
		var own, ownSystem, children, childrenSystem time.Duration
		behindName := stat[bytes.LastIndexByte(stat, ')')+1:]
		if _, err := fmt.Sscan(string(behindName), &state, &parent, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip,
			&own, &ownSystem, &children, &childrenSystem); err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		if pid == postmaster {
			busy += own + ownSystem + children + childrenSystem
		} else if int(parent) == postmaster {
			busy += own + ownSystem
		}
	}
	return busy * tick, nil
}

// tick is the unit of those times on Linux, whatever its clock.
const tick = 10 * time.Millisecond
