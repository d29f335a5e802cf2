//! Files, sockets and pipes of observed programs.

use std::collections::BTreeMap;

use agentsight::capture::bpf::{Options, WatchIo};
use agentsight::event::{
    Body, Channel, ChannelType, Confidence, FileAccess, OpenOperation, PathOperation, Role, Source,
};

use super::{Run, capture_with};

/// Runs a Python script whose files, sockets and pipes are watched.
fn watched(topic: &str, io: WatchIo, script: &str) -> Option<Run> {
    let mut run = Run::new(topic)?;
    let mut capture = capture_with(&run, &Options { io, ..Options::default() });
    capture.watch_io(true).expect("attachable");
    run.python(script);
    run.collect(&mut capture);
    run.assert_ledger_balances(&capture);
    run.assert_rows_equal_ledger(&capture);
    Some(run)
}

fn channels(run: &Run) -> Vec<Channel> {
    let of = |event: &agentsight::event::Event| match &event.body {
        Body::ChannelOpen(channel) => Some(channel.clone()),
        _ => None,
    };
    run.events.iter().filter_map(of).collect()
}

/// `(read_bytes, written_bytes)` at the close of each channel.
fn closed(run: &Run) -> BTreeMap<u64, (u64, u64)> {
    let of = |event: &agentsight::event::Event| match event.body {
        Body::ChannelClose { conn_id, read_bytes, written_bytes } => {
            Some((conn_id, (read_bytes, written_bytes)))
        }
        _ => None,
    };
    run.events.iter().filter_map(of).collect()
}

/// All that was done to paths that end so, summed up.
fn access(run: &Run, end: &str) -> FileAccess {
    let mut sum = FileAccess::default();
    for event in &run.events {
        let Body::FileAccess(access) = &event.body else { continue };
        if !access.path.as_deref().is_some_and(|path| path.ends_with(end)) {
            continue;
        }
        sum.path.clone_from(&access.path);
        sum.operation = sum.operation.or(access.operation);
        sum.flags = sum.flags.or_else(|| access.flags.clone());
        sum.open_count += access.open_count;
        sum.read_count += access.read_count;
        sum.read_bytes += access.read_bytes;
        sum.write_count += access.write_count;
        sum.written_bytes += access.written_bytes;
        sum.errno = access.errno;
    }
    sum
}

fn captured(run: &Run, source: Source, conn_id: u64) -> Vec<u8> {
    let of = |event: &agentsight::event::Event| match &event.body {
        Body::Data(data) if data.source == source && data.conn_id == conn_id => {
            Some(data.data.clone())
        }
        _ => None,
    };
    run.events.iter().filter_map(of).flatten().collect()
}

#[test]
fn files_are_counted_by_process_with_their_resolved_paths() {
    let script = "import os\n\
        os.mkdir('d'); os.chdir('d')\n\
        f = os.open('a', os.O_CREAT | os.O_WRONLY); os.write(f, b'x' * 1000); os.write(f, b'y' * 24)\n\
        os.truncate('a', 10); os.close(f); os.symlink('a', 'l')\n\
        f = os.open('l', os.O_RDONLY); os.pread(f, 4, 0); os.close(f)\n\
        f = os.open('../d/./a', os.O_RDONLY); os.read(f, 100); os.read(f, 100); os.close(f)\n\
        os.rename('a', '../b'); os.link('../b', 'c'); os.unlink('c'); os.unlink('l')\n\
        os.chdir('..'); os.rmdir('d')\n\
        [os.path.exists('b') or 1 for _ in range(3)]\n\
        for _ in range(3):\n    try: os.open('missing/file', os.O_RDONLY)\n    except OSError: pass";
    let Some(run) = watched("files", WatchIo::default(), script) else { return };

    let a = access(&run, "/d/a");
    assert_eq!((a.open_count, a.write_count, a.written_bytes), (3, 2, 1024), "{a:?}");
    // The last read found the end and moved nothing.
    assert_eq!((a.read_count, a.read_bytes, a.errno), (2, 14, 0), "{a:?}");
    assert_eq!(a.operation, Some(OpenOperation::Create));
    assert_eq!(a.flags.as_deref(), Some("O_WRONLY|O_CREAT|O_CLOEXEC"));
    let missing = access(&run, "/missing/file");
    assert_eq!((missing.open_count, missing.errno), (3, libc::ENOENT as u32));

    let ops: Vec<_> = run
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::FileOp(op) => Some(op),
            _ => None,
        })
        .collect();
    let here = run.dir().canonicalize().expect("it is there");
    let here = here.to_str().expect("utf-8");
    let told: Vec<_> = ops
        .iter()
        .map(|op| {
            let short = |path: &Option<String>| {
                path.as_deref().map(|path| path.strip_prefix(here).unwrap_or(path).to_owned())
            };
            (op.operation, short(&op.path).unwrap_or_default(), short(&op.new_path))
        })
        .filter(|(_, path, _)| !path.contains("__pycache__"))
        .collect();
    let op = |operation, path: &str, new: Option<&str>| {
        (operation, path.to_owned(), new.map(str::to_owned))
    };
    assert_eq!(
        told,
        [
            op(PathOperation::Mkdir, "/d", None),
            op(PathOperation::Truncate, "/d/a", None),
            op(PathOperation::Symlink, "/d/a", Some("/d/l")),
            op(PathOperation::Rename, "/d/a", Some("/b")),
            op(PathOperation::Link, "/b", Some("/d/c")),
            op(PathOperation::Unlink, "/d/c", None),
            op(PathOperation::Unlink, "/d/l", None),
            op(PathOperation::Rmdir, "/d", None),
        ]
    );
}

#[test]
fn plain_http_is_recorded_and_other_protocols_are_only_counted() {
    let script = "import socket\n\
        def pair(kind, address):\n\
        \x20   server = socket.socket(kind); server.bind(address); server.listen()\n\
        \x20   client = socket.socket(kind); client.connect(server.getsockname())\n\
        \x20   return client, server.accept()[0]\n\
        def talk(ends, request, answer):\n\
        \x20   client, server = ends\n\
        \x20   client.sendall(request); server.recv(1000)\n\
        \x20   server.sendmsg([answer[:5], answer[5:]]); client.recv(1000)\n\
        \x20   client.close(); server.close()\n\
        talk(pair(socket.AF_INET, ('127.0.0.1', 0)), b'POST /api/chat HTTP/1.1\\r\\n\\r\\n', b'HTTP/1.1 200 OK\\r\\n\\r\\nhello')\n\
        talk(pair(socket.AF_UNIX, 'server.sock'), b'GET / HTTP/1.1\\r\\n\\r\\n', b'HTTP/1.1 404 No\\r\\n\\r\\n')\n\
        talk(pair(socket.AF_INET, ('127.0.0.1', 0)), b'secret protocol', b'answered')";
    let Some(run) = watched("plain", WatchIo::default(), script) else { return };

    let of = |channel_type, role| {
        let channels = channels(&run).into_iter();
        channels
            .filter(move |channel| (channel.channel_type, channel.role) == (channel_type, role))
            .collect::<Vec<_>>()
    };
    let clients = of(ChannelType::Tcp, Role::Connect);
    let servers = of(ChannelType::Tcp, Role::Accept);
    assert_eq!((clients.len(), servers.len()), (2, 2));
    assert_eq!(clients[0].remote_addr, servers[0].local_addr);
    assert_eq!(clients[0].local_addr, servers[0].remote_addr);
    let http = captured(&run, Source::Socket, clients[0].conn_id);
    assert_eq!(http, b"POST /api/chat HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello");
    assert_eq!(closed(&run)[&clients[0].conn_id], (24, 27));
    assert_eq!(captured(&run, Source::Socket, clients[1].conn_id), b"");
    assert_eq!(closed(&run)[&clients[1].conn_id], (8, 15));

    let unix = of(ChannelType::Unix, Role::Connect);
    assert_eq!(unix.len(), 1);
    assert_eq!(unix[0].remote_addr.as_deref(), Some("server.sock"));
    let http = captured(&run, Source::Socket, unix[0].conn_id);
    assert_eq!(http, b"GET / HTTP/1.1\r\n\r\nHTTP/1.1 404 No\r\n\r\n");
}

#[test]
fn what_programs_say_to_each_other_over_pipes_and_pairs_is_recorded_with_both_ends() {
    let script = "import socket, subprocess, sys\n\
        child = subprocess.Popen(['/bin/cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n\
        print(child.communicate(b'{\"jsonrpc\":\"2.0\"}\\n')[0])\n\
        ours, theirs = socket.socketpair()\n\
        child = subprocess.Popen(['/bin/cat'], stdin=theirs, stdout=theirs); theirs.close()\n\
        ours.send(b'over a pair'); ours.shutdown(socket.SHUT_WR); ours.recv(100); child.wait()";
    let Some(run) = watched("stdio", WatchIo::default(), script) else { return };
    let all = channels(&run);
    let said = |text: &[u8]| {
        let of = |event: &agentsight::event::Event| match &event.body {
            Body::Data(data) if data.data == text => Some((data.conn_id, data.fd, data.direction)),
            _ => None,
        };
        run.events.iter().filter_map(of).collect::<Vec<_>>()
    };
    for text in [b"{\"jsonrpc\":\"2.0\"}\n".as_slice(), b"over a pair"] {
        let said = said(text);
        assert_eq!(said.iter().map(|(_, fd, _)| *fd).collect::<Vec<_>>(), [Some(0), Some(1)]);
        // The parent's end is told of, though what it says is recorded at the child's.
        for (conn_id, ..) in said {
            let end = all.iter().find(|channel| channel.conn_id == conn_id).expect("told of");
            let other = all.iter().find(|channel| {
                channel.conn_id != conn_id
                    && channel.remote_addr == end.local_addr
                    && channel.local_addr == end.remote_addr
            });
            assert!(other.is_some(), "{end:?} has no other end in {all:#?}");
        }
    }
}

#[test]
fn limits_of_standard_streams_are_kept_and_what_is_cut_is_counted() {
    let io = WatchIo { stdio_max_bytes: Some(10), ..WatchIo::default() };
    let script = "import os; os.write(1, b'0123456789abcdef'); os.write(1, b'short')";
    let Some(run) = watched("limits", io, script) else { return };
    let rows: Vec<_> = run
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Data(data) => Some((data.stream_offset, data.data_bytes, data.lost_bytes)),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [(0, 10, 0), (10, 6, 6), (16, 5, 0)]);

    let io = WatchIo { stdio_uid: Some(12_345), ..WatchIo::default() };
    let Some(run) = watched("other-user", io, script) else { return };
    assert!(!run.events.iter().any(|event| matches!(event.body, Body::Data(_))));
}

#[test]
fn a_refused_connection_is_told_with_its_address() {
    let script = "import socket\n\
        for family, address in [(socket.AF_INET, ('127.0.0.1', 1)), (socket.AF_UNIX, '/no/such')]:\n\
        \x20   try: socket.socket(family).connect(address)\n\
        \x20   except OSError: pass";
    let Some(run) = watched("refused", WatchIo::default(), script) else { return };
    let refused: Vec<_> = channels(&run).into_iter().filter(|channel| channel.errno != 0).collect();
    let told: Vec<_> = refused
        .iter()
        .map(|channel| (channel.remote_addr.as_deref(), channel.errno as i32))
        .collect();
    assert_eq!(told, [(Some("127.0.0.1:1"), libc::ECONNREFUSED), (Some("/no/such"), libc::ENOENT)]);
}

#[test]
fn nothing_is_left_in_the_maps_of_a_process_that_leaves_everything_open() {
    let Some(mut run) = Run::new("leftovers") else { return };
    let mut capture = capture_with(&run, &Options::default());
    capture.watch_io(true).expect("attachable");
    run.python(
        "import os, socket\n\
         pairs = [socket.socketpair() for _ in range(200)]\n\
         [(a.send(b'x'), b.recv(1)) for a, b in pairs]\n\
         files = [open(f'f{n}', 'w') for n in range(200)]\n\
         os._exit(0)",
    );
    run.collect(&mut capture);
    run.assert_rows_equal_ledger(&capture);
    assert_eq!(closed(&run).len(), channels(&run).len());
    assert_eq!(capture.map_entries(), agentsight::capture::bpf::MapEntries::default());
}

#[test]
fn a_socket_used_inside_a_call_is_the_connections_for_certain() {
    let Some(mut run) = Run::new("peer") else { return };
    let mut capture = capture_with(&run, &Options::default());
    capture.watch_io(true).expect("attachable");
    let tls = super::Tls::start(&run);
    tls.attach(&mut capture);
    run.python(&tls.client(&[1000, 2000]));
    run.collect(&mut capture);
    run.assert_ledger_balances(&capture);
    let links: Vec<_> = run
        .events
        .iter()
        .filter_map(|event| match event.body {
            Body::TlsSocket(link) => Some(link),
            _ => None,
        })
        .collect();
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(links[0].confidence, Confidence::Certain);
    let socket = channels(&run)
        .into_iter()
        .find(|channel| channel.conn_id == links[0].socket_conn_id)
        .expect("the socket is told of");
    assert_eq!(socket.remote_addr, Some(format!("127.0.0.1:{}", tls.port())));
    assert!(run.tls_data().iter().all(|data| data.conn_id == links[0].conn_id));
    let hello = captured(&run, Source::TlsHello, socket.conn_id);
    // RFC 8446, 5.1 and 4: a handshake record that begins with a ClientHello.
    assert_eq!((hello[0], hello[5]), (22, 1));
    // What went over the wire is more than the plaintext.
    let (read, written) = closed(&run)[&socket.conn_id];
    assert!(read > 3000 && written > 3000, "{read} {written}");
}
