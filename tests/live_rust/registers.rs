//! Inlined code has its data in any register: a program that puts a connection and a payload into each
//! of them in turn, probed in the middle of its code.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use agentsight::capture::bpf::{Capture, Options, TlsFunction};
use agentsight::capture::tls_library::RustlsPlace;
use agentsight::event::{Body, Direction, Event};
use object::{Object, ObjectSegment, ObjectSymbol};

use super::host::live;

/// Names of the registers by their number in machine code; the stack's are left out.
const REGISTERS: [(u8, &str); 14] = [
    (0, "rax"),
    (1, "rcx"),
    (2, "rdx"),
    (3, "rbx"),
    (6, "rsi"),
    (7, "rdi"),
    (8, "r8"),
    (9, "r9"),
    (10, "r10"),
    (11, "r11"),
    (12, "r12"),
    (13, "r13"),
    (14, "r14"),
    (15, "r15"),
];

/// How far the payload is from what its register holds.
fn payload_offset(payload: u8) -> i16 {
    (i16::from(payload) - 8) * 24
}

/// Every register with the one after it as the payload's: connection and payload.
fn pairs() -> impl Iterator<Item = ((u8, &'static str), (u8, &'static str))> {
    REGISTERS.into_iter().zip(REGISTERS.into_iter().cycle().skip(1))
}

/// A program that reaches the label `site_N` once for every register N of a connection, with a payload
/// that says N.
fn program() -> String {
    let mut source = String::from(
        "#include <string.h>\n\
         struct payload { unsigned long capacity; const char *data; unsigned long bytes; };\n\
         struct payload payload; unsigned long connection; char *place;\n\
         int main(void) {\n",
    );
    for ((number, connection), (payload, register)) in pairs() {
        let offset = payload_offset(payload);
        source.push_str(&format!(
            "payload.capacity = 1UL << 63; payload.data = \"payload of {number}\"; \
             payload.bytes = strlen(payload.data); connection = {};\n\
             place = (char *)&payload - ({offset});\n\
             __asm__ volatile(\"mov connection(%%rip), %%{connection}\\n\
             mov place(%%rip), %%{register}\\n.globl site_{number}\\nsite_{number}: nop\" \
             ::: \"{connection}\", \"{register}\", \"memory\");\n",
            0x10_0000 + u64::from(number)
        ));
    }
    source.push_str("return 0;\n}\n");
    source
}

#[test]
#[cfg(target_arch = "x86_64")]
fn data_is_found_through_every_register() {
    live(|host| {
        let source = host.write("registers.c", &program());
        let program = host.path("registers-probe");
        let mut cc = Command::new("cc");
        cc.args(["-O0", "-no-pie", "-o"]).arg(&program).arg(&source);
        assert!(cc.status().unwrap().success());
        let name = program.file_name().unwrap().to_str().unwrap().to_owned();
        let options = Options { names: vec![name], ..Options::default() };
        let mut capture = Capture::load(&options).unwrap();
        let bytes = std::fs::read(&program).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let mut expected = Vec::new();
        for ((connection, _), (payload, _)) in pairs() {
            let label = format!("site_{connection}");
            let symbol = file.symbols().find(|symbol| symbol.name() == Ok(&label)).unwrap();
            let holds = |segment: &object::Segment<'_, '_>| {
                let inside = symbol.address().wrapping_sub(segment.address());
                inside < segment.size()
            };
            let segment = file.segments().find(holds).unwrap();
            let offset = symbol.address() - segment.address() + segment.file_range().0;
            let payload_offset = payload_offset(payload);
            let place = RustlsPlace { connection, payload, payload_offset, encrypter_offset: None };
            let function = TlsFunction::RustlsRead(place);
            capture.attach_tls(&program, offset, function, "rustls").unwrap();
            expected.push(format!("payload of {connection}"));
        }
        let mut streams = BTreeMap::<u64, String>::new();
        let mut take = |event: Event| {
            if let Body::Data(data) = event.body
                && data.library == "rustls"
            {
                assert_eq!(data.direction, Direction::Read);
                let text = String::from_utf8(data.data).unwrap();
                streams.entry(data.conn_id).or_default().push_str(&text);
            }
        };
        let mut child = Command::new(&program).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            capture.drain(Duration::from_millis(10), &mut take).unwrap();
        }
        capture.detach(&mut take).unwrap();
        // Each on a connection of its own, and in the order in which they were reached.
        assert_eq!(streams.into_values().collect::<Vec<_>>(), expected);
    });
}
