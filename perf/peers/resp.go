// SPDX-License-Identifier: MIT

// resp.go - a server of the Redis protocol in Go, a goroutine for each connection: what one would write
// first. It keeps what coir-kv keeps: binary-safe keys and values in 64 shards with a lock each, keys that
// may expire. It knows PING, GET, SET [EX|PX n], DEL, EXISTS, INCR, DBSIZE.
//
//	resp --port N
//
// At its best: buffered readers and writers of 16 KiB, replies sent when no request waits, no
// allocation for a GET, the collector at four times the default distance.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

// -------------------------------------------------------------------------------------- store

type entry struct {
	value   []byte
	expires int64 // ns since the start; 0: never
}

type shard struct {
	lock sync.Mutex
	keys map[string]entry
	_    [40]byte // a cache line each
}

var (
	shards [64]shard
	seed   = maphash.MakeSeed()
	began  = time.Now()
)

func now() int64 { return int64(time.Since(began)) }

func shardOf(key []byte) *shard {
	return &shards[maphash.Bytes(seed, key)%uint64(len(shards))]
}

// The shard is locked.
func (s *shard) find(key []byte) (entry, bool) {
	e, found := s.keys[string(key)]
	if found && e.expires != 0 && e.expires <= now() {
		delete(s.keys, string(key))
		return entry{}, false
	}
	return e, found
}

func get(key []byte) ([]byte, bool) {
	s := shardOf(key)
	s.lock.Lock()
	e, found := s.find(key)
	s.lock.Unlock()
	return e.value, found
}

func set(key, value []byte, expires int64) {
	s, e := shardOf(key), entry{append([]byte(nil), value...), expires}
	s.lock.Lock()
	s.keys[string(key)] = e
	s.lock.Unlock()
}

func del(key []byte) bool {
	s := shardOf(key)
	s.lock.Lock()
	_, found := s.find(key)
	delete(s.keys, string(key))
	s.lock.Unlock()
	return found
}

func incr(key []byte) (int64, error) {
	s := shardOf(key)
	s.lock.Lock()
	defer s.lock.Unlock()
	e, found := s.find(key)
	n := int64(0)
	if found {
		var err error
		if n, err = strconv.ParseInt(string(e.value), 10, 64); err != nil {
			return 0, errors.New("value is not an integer or out of range")
		}
	}
	n++
	s.keys[string(key)] = entry{strconv.AppendInt(nil, n, 10), e.expires}
	return n, nil
}

// ------------------------------------------------------------------------------------ protocol

type client struct {
	in    *bufio.Reader
	out   *bufio.Writer
	bytes []byte   // of the arguments
	ends  []int    // of each of them
	args  [][]byte // views of bytes
	text  [24]byte
}

var errProtocol = errors.New("protocol error")

func (c *client) number(kind byte) (int, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 4 || line[0] != kind {
		return 0, errProtocol
	}
	n := 0
	for _, digit := range line[1 : len(line)-2] {
		if digit < '0' || digit > '9' || n > 1<<24 {
			return 0, errProtocol
		}
		n = 10*n + int(digit-'0')
	}
	return n, nil
}

func (c *client) read() error {
	count, err := c.number('*')
	c.bytes, c.ends, c.args = c.bytes[:0], c.ends[:0], c.args[:0]
	for ; err == nil && count > 0; count-- {
		var length int
		if length, err = c.number('$'); err != nil {
			return err
		}
		at := len(c.bytes)
		for cap(c.bytes) < at+length+2 {
			c.bytes = append(c.bytes[:cap(c.bytes)], 0)
		}
		c.bytes = c.bytes[:at+length+2]
		_, err = io.ReadFull(c.in, c.bytes[at:])
		c.bytes = c.bytes[:at+length]
		c.ends = append(c.ends, at+length)
	}
	at := 0
	for _, end := range c.ends {
		c.args = append(c.args, c.bytes[at:end])
		at = end
	}
	return err
}

func (c *client) integer(kind byte, n int64) {
	c.out.WriteByte(kind)
	c.out.Write(strconv.AppendInt(c.text[:0], n, 10))
	c.out.WriteString("\r\n")
}

func (c *client) bulk(value []byte) {
	c.integer('$', int64(len(value)))
	c.out.Write(value)
	c.out.WriteString("\r\n")
}

// ------------------------------------------------------------------------------------ commands

func (c *client) set() string {
	expires := int64(0)
	if len(c.args) == 5 {
		unit := map[string]int64{"ex": 1e9, "px": 1e6}[strings.ToLower(string(c.args[3]))]
		n, err := strconv.ParseInt(string(c.args[4]), 10, 32)
		if err != nil || unit == 0 || n <= 0 {
			return "syntax error"
		}
		expires = now() + n*unit
	} else if len(c.args) != 3 {
		return "syntax error"
	}
	set(c.args[1], c.args[2], expires)
	c.out.WriteString("+OK\r\n")
	return ""
}

func (c *client) count(found func(key []byte) bool) {
	n := int64(0)
	for _, key := range c.args[1:] {
		if found(key) {
			n++
		}
	}
	c.integer(':', n)
}

func (c *client) size() {
	n := 0
	for i := range shards {
		shards[i].lock.Lock()
		n += len(shards[i].keys)
		shards[i].lock.Unlock()
	}
	c.integer(':', int64(n))
}

func is(word []byte, name string) bool {
	return len(word) == len(name) && strings.EqualFold(string(word), name)
}

// Appends a reply, or says what is wrong.
func (c *client) run() string {
	name, two := c.args[0], len(c.args) == 2
	switch {
	case is(name, "get") && two:
		if value, found := get(c.args[1]); found {
			c.bulk(value)
		} else {
			c.out.WriteString("$-1\r\n")
		}
	case is(name, "set"):
		return c.set()
	case is(name, "ping"):
		c.out.WriteString("+PONG\r\n")
	case is(name, "del"):
		c.count(del)
	case is(name, "exists"):
		c.count(func(key []byte) bool { _, found := get(key); return found })
	case is(name, "incr") && two:
		n, err := incr(c.args[1])
		if err != nil {
			return err.Error()
		}
		c.integer(':', n)
	case is(name, "dbsize"):
		c.size()
	default:
		return "unknown command or wrong number of arguments"
	}
	return ""
}

func serve(conn net.Conn) {
	defer conn.Close()
	c := client{in: bufio.NewReaderSize(conn, 16<<10), out: bufio.NewWriterSize(conn, 16<<10)}
	for c.read() == nil {
		if len(c.args) > 0 {
			if wrong := c.run(); wrong != "" {
				fmt.Fprintf(c.out, "-ERR %s\r\n", wrong)
			}
		}
		if c.in.Buffered() == 0 && c.out.Flush() != nil {
			return
		}
	}
}

func main() {
	port := flag.Int("port", 6379, "")
	flag.Parse()
	debug.SetGCPercent(400)
	for i := range shards {
		shards[i].keys = map[string]entry{}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(*port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go serve(conn)
	}
}
