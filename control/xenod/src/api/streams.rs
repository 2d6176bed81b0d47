//! Requests that are answered again and again: consoles, the store's changes, news of domains.
//!
//! A stream's task reads what is new at the pace at which its client reads, and keeps nothing for it.

use std::rc::Rc;

use tokio::sync::{broadcast, oneshot};
use xeno_api::{Answer, Data, EndReason, Error, Event, Kind, Op, Reply, Target};

use super::session::{Open, Session};
use crate::console::Screen;
use crate::guest::Guest;
use crate::store_client::Client;

/// Bytes of a console in one line: as JSON at most six times as many, far below the longest line.
const PIECE: usize = 32 << 10;

/// Opens a stream and follows it.
pub async fn open(session: &Rc<Session>, id: u64, op: Op) {
    let opened = match op {
        Op::Console {
            domain,
            scrollback_bytes,
            only_past,
        } => console(session, id, &domain, scrollback_bytes, only_past),
        Op::StoreWatch { path } => watch(session, id, &path),
        Op::Events {} => Ok(events(session, id)),
        _ => Err(Error::new(Kind::Internal, "this opens no stream")),
    };
    match opened {
        Ok((answer, begin)) => {
            session.say(id, Reply::Ok(answer)).await;
            let _cancelled_already = begin.send(());
        }
        Err(error) => {
            session.say(id, Reply::Error(error)).await;
        }
    }
}

/// Starts a stream's task; it waits until its answer was said. What it ends with is said when it ends.
fn start<F>(
    session: &Rc<Session>,
    id: u64,
    console: Option<Rc<Guest>>,
    follow: F,
) -> oneshot::Sender<()>
where
    F: Future<Output = Option<EndReason>> + 'static,
{
    let (begin, may_begin) = oneshot::channel();
    let weak = Rc::downgrade(session);
    let task = tokio::task::spawn_local(async move {
        if may_begin.await.is_err() {
            return;
        }
        if let Some(why) = follow.await
            && let Some(session) = weak.upgrade()
        {
            session.end(id, why).await;
        }
    });
    let open = Open {
        task: task.abort_handle(),
        console,
    };
    session.open.borrow_mut().insert(id, open);
    begin
}

type Opened = (Answer, oneshot::Sender<()>);

fn console(
    session: &Rc<Session>,
    id: u64,
    domain: &Target,
    scrollback: Option<u64>,
    only_past: bool,
) -> Result<Opened, Error> {
    let guest = session.daemon.find(domain)?;
    let screen = guest.console.borrow().screen();
    let (start_at, end) = {
        let kept = screen.kept();
        let asked = scrollback.map_or(kept.start(), |bytes| kept.end().saturating_sub(bytes));
        (asked.max(kept.start()), kept.end())
    };
    let answer = Answer::Attached {
        skipped_bytes: start_at,
    };
    let until = only_past.then_some(end);
    let follow = follow_console(Rc::clone(session), id, screen, start_at, until);
    let begin = start(session, id, Some(guest), follow);
    Ok((answer, begin))
}

async fn follow_console(
    session: Rc<Session>,
    id: u64,
    screen: Screen,
    mut from: u64,
    until: Option<u64>,
) -> Option<EndReason> {
    let mut news = screen.news();
    loop {
        let closed = news.borrow_and_update().closed;
        loop {
            let most = until.map_or(PIECE as u64, |until| until.saturating_sub(from));
            let piece = screen.kept().read(from, (most as usize).min(PIECE));
            if piece.missed > 0 {
                let bytes = piece.missed;
                if !session.say(id, Reply::Event(Event::Lost { bytes })).await {
                    return None;
                }
            }
            from = piece.next;
            if piece.bytes.is_empty() {
                break;
            }
            let data = Data(piece.bytes);
            if !session.say(id, Reply::Event(Event::Output { data })).await {
                return None;
            }
        }
        if until.is_some() {
            return Some(EndReason::Complete);
        }
        if closed || news.changed().await.is_err() {
            return Some(EndReason::Gone);
        }
    }
}

fn watch(session: &Rc<Session>, id: u64, path: &str) -> Result<Opened, Error> {
    let mut client = Client::new(&session.daemon.store);
    client
        .watch(path)
        .map_err(|error| super::answers::store_refused(path, error))?;
    let telling = Rc::clone(session);
    let follow = async move {
        loop {
            let path = client.next_event().await;
            if !telling.say(id, Reply::Event(Event::Changed { path })).await {
                return None;
            }
        }
    };
    Ok((Answer::Done {}, start(session, id, None, follow)))
}

fn events(session: &Rc<Session>, id: u64) -> Opened {
    let mut news = session.daemon.news.subscribe();
    let telling = Rc::clone(session);
    let follow = async move {
        loop {
            let one = match news.recv().await {
                Ok(one) => one,
                // What went by is told by what comes: each says how a domain is now.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return Some(EndReason::Stopping),
            };
            let event = Event::Domain {
                domain: one.domain,
                gone: one.gone,
            };
            if !telling.say(id, Reply::Event(event)).await {
                return None;
            }
        }
    };
    (Answer::Done {}, start(session, id, None, follow))
}
