//! `ws` lines of transcripts: frames of WebSocket, masked where the client sends, compressed on demand.

use super::deflate;

/// The compressor of one direction.
#[derive(Default)]
pub(super) struct Encoder {
    /// What `zip+` frames have said so far.
    history: Vec<u8>,
}

impl Encoder {
    /// A frame: its type and flags, and its content.
    pub(super) fn frame(&mut self, words: &str, content: &[u8], is_client: bool) -> Vec<u8> {
        let mut words = words.split(' ');
        let kind = words.next().unwrap();
        let (mut is_final, mut zip, mut more, mut code) = (true, None, 0, None);
        for word in words {
            match word {
                "part" => is_final = false,
                "zip" => zip = Some(Vec::new()),
                "zip+" => zip = Some(self.history.clone()),
                _ if word.starts_with("more") => more = word[4..].parse().unwrap(),
                _ => code = Some(word.parse::<u16>().unwrap()),
            }
        }
        let opcode = match kind {
            "continue" => 0,
            "text" => 1,
            "binary" => 2,
            "close" => 8,
            "ping" => 9,
            "pong" => 10,
            _ => panic!("unknown frame: {kind}"),
        };
        let code = code.map(u16::to_be_bytes).into_iter().flatten();
        let mut payload: Vec<u8> = code.chain(content.iter().copied()).collect();
        let mut first = opcode | if is_final { 0x80 } else { 0 };
        if let Some(history) = zip {
            first |= 0x40;
            payload = deflate::message(&history, content);
            self.history.extend_from_slice(content);
        }
        let mask_bit = if is_client { 0x80 } else { 0 };
        let mut out = vec![first];
        match payload.len() + more {
            length @ 0..126 => out.push(mask_bit | length as u8),
            length @ 126..0x1_0000 => {
                out.push(mask_bit | 126);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(mask_bit | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        if is_client {
            let mask = [0x1d, 0xa7, 0x36, 0xc2];
            out.extend(mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            out.extend(payload);
        }
        out
    }
}
