// Sends the requests of a file over one kept TLS connection; see tests/live/client.rs.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

type request struct {
	Path string
	Body json.RawMessage
}

func main() {
	base, ca, requests := os.Args[1], os.Args[2], os.Args[3]
	pem, err := os.ReadFile(ca)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots}
	file, err := os.Open(requests)
	check(err)
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	transport := &http.Transport{TLSClientConfig: config}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	for index := 0; lines.Scan(); index++ {
		var next request
		check(json.Unmarshal(lines.Bytes(), &next))
		if index == 1 && len(os.Args) > 4 {
			for _, err := os.Stat(os.Args[4]); err != nil; _, err = os.Stat(os.Args[4]) {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if os.Getenv("CLIENT_API") == "tls" {
			sendByHand(base, config, next)
			continue
		}
		response, err := client.Post(base+next.Path, "application/json", bytes.NewReader(next.Body))
		check(err)
		_, err = io.Copy(io.Discard, response.Body)
		check(err)
		response.Body.Close()
		if response.StatusCode != 200 {
			check(fmt.Errorf("status %d", response.StatusCode))
		}
	}
	check(lines.Err())
	transport.CloseIdleConnections()
}

// A connection of its own. A goroutine reads it into a buffer on its stack, which is small when the
// read begins and has to move while the handshake goes on inside that read.
func sendByHand(base string, config *tls.Config, next request) {
	address, err := url.Parse(base)
	check(err)
	plain, err := net.Dial("tcp", address.Host)
	check(err)
	config = config.Clone()
	config.ServerName = address.Hostname()
	connection := tls.Client(plain, config)
	end := make(chan int)
	go func() { end <- readAll(connection) }()
	for !connection.ConnectionState().HandshakeComplete {
		time.Sleep(time.Millisecond)
	}
	var head strings.Builder
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n", next.Path, address.Host)
	fmt.Fprintf(&head, "content-type: application/json\r\ncontent-length: %d\r\n\r\n", len(next.Body))
	_, err = connection.Write([]byte(head.String()))
	check(err)
	_, err = connection.Write(next.Body)
	check(err)
	if <-end == 0 {
		check(fmt.Errorf("no answer"))
	}
	connection.Close()
}

func readAll(connection *tls.Conn) int {
	var part [1000]byte
	for total := 0; ; {
		count, err := connection.Read(part[:])
		total += count
		if err != nil {
			return total
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}
