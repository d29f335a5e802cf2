//! What calls have to do with each other, as text: a line or a block per finding.

use std::fmt::Write as _;

use agentsight::reconstruct::finding::{
    CacheBreak, Carried, Conversation, Placed, ToolCall, Turn, WallTime,
};

use super::{line, ms};

pub(super) fn tool_call(out: &mut String, found: &ToolCall) {
    writeln!(out, "tool_call {} of {}", found.tool_call_id, found.call_id).unwrap();
    line(out, "result_call_id", found.result_call_id);
    line(out, "name", found.name.as_ref());
    line(out, "arguments", found.arguments.as_ref().map(|text| text.escape_debug()));
    line(out, "result", found.result.as_ref().map(|text| text.escape_debug()));
    line(out, "result_bytes", found.result_bytes);
    line(out, "is_error", found.is_error);
    line(out, "start_ms", ms(Some(found.start_ts)));
    line(out, "end_ms", ms(found.end_ts));
    line(out, "is_server_side", Some(true).filter(|_| found.is_server_side));
}

pub(super) fn carried(out: &mut String, found: &Carried) {
    let Carried { call_id, tool_call_id, calls } = found;
    writeln!(out, "carried {tool_call_id} of {call_id}: {calls}").unwrap();
}

pub(super) fn placed(out: &mut String, found: &Placed) {
    let place = &found.placement;
    write!(out, "placed {}: {}", found.call_id, place.class.as_str()).unwrap();
    if let Some(conversation_id) = place.conversation_id {
        write!(out, ", conversation {conversation_id}").unwrap();
    }
    if let Some(turn) = place.turn {
        write!(out, ", turn {turn}").unwrap();
    }
    if let Some(retry_of) = place.retry_of {
        write!(out, ", attempt {} after {retry_of}", place.attempt).unwrap();
    }
    out.push('\n');
}

pub(super) fn cache_break(out: &mut String, found: &CacheBreak) {
    writeln!(out, "cache_break {} after {}", found.call_id, found.previous_call_id).unwrap();
    line(out, "conversation_id", Some(found.conversation_id));
    line(out, "cause", Some(found.cause));
    line(out, "first_difference", found.first_difference.as_ref());
    line(out, "provider_reason", found.provider_reason.as_ref());
    line(out, "common_bytes", found.common_bytes);
    line(out, "idle_ms", found.idle_ms);
    line(out, "lost_tokens", found.lost_tokens);
}

pub(super) fn turn(out: &mut String, found: &Turn) {
    writeln!(out, "turn {}.{}", found.conversation_id, found.turn).unwrap();
    line(out, "calls", Some(format!("{} to {}", found.first_call_id, found.last_call_id)));
    line(out, "number", Some(found.calls));
    line(out, "retries", Some(found.retries).filter(|retries| *retries > 0));
    line(out, "tool_calls", Some(found.tool_calls).filter(|calls| *calls > 0));
    line(out, "start_ms", ms(Some(found.start_ts)));
    line(out, "end_ms", ms(found.end_ts));
    line(out, "prompt", found.prompt.as_ref().map(|text| text.escape_debug()));
    line(out, "stop_reason", found.stop_reason.as_ref());
    line(out, "wall_time_ms", Some(wall_time(&found.wall_time)));
}

fn wall_time(time: &WallTime) -> String {
    let parts = [
        ("upload", time.upload_ms),
        ("wait", time.wait_ms),
        ("thinking", time.thinking_ms),
        ("stream", time.stream_ms),
        ("stall", time.stall_ms),
        ("tool", time.tool_ms),
        ("user", time.user_ms),
        ("retry", time.retry_ms),
    ];
    let parts = parts.iter().filter(|(_, ms)| *ms > 0.0);
    let parts: Vec<_> = parts.map(|(name, ms)| format!("{name} {ms}")).collect();
    format!("{} = {}", time.total_ms(), parts.join(" + "))
}

pub(super) fn conversation(out: &mut String, found: &Conversation) {
    writeln!(out, "conversation {}", found.conversation_id).unwrap();
    line(out, "class", Some(found.class.as_str()));
    line(out, "parent_conversation_id", found.parent_conversation_id);
    line(out, "parent_tool_call_id", found.parent_tool_call_id.as_ref());
    line(out, "agent", found.agent.as_ref());
    line(out, "start_ms", ms(Some(found.start_ts)));
    line(out, "end_ms", ms(found.end_ts));
    line(out, "turns", Some(found.turns));
    line(out, "calls", Some(found.calls));
    line(out, "compactions", Some(found.compactions).filter(|number| *number > 0));
    line(out, "cut", found.cut.map(|reason| reason.as_str()));
}
