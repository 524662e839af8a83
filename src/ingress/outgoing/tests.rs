//! Large answers: handed over as they are, and counted for as long as they wait.

use std::{collections::HashMap, time::Duration};

use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;

use crate::{
    ingress::connections::{ConnectionBounds, ConnectionSlot, Connections},
    telemetry::Counters,
};

use super::{super::budget::SendBounds, *};

const ROOMY: SendBounds = SendBounds { connection: 1 << 40, caller: 1 << 40, gate: 1 << 40 };

fn budget(bounds: SendBounds) -> (Arc<SendBudget>, Arc<Counters>) {
    let counters = Arc::<Counters>::default();
    (SendBudget::new(bounds, Arc::clone(&counters)), counters)
}

fn places(count: usize) -> Vec<ConnectionSlot> {
    let time = Duration::from_secs(60);
    let bounds = ConnectionBounds {
        connections_max: 1_000,
        per_address_max: 1_000,
        idle: time,
        write_timeout: time,
    };
    let all = Connections::new(bounds, Arc::default());
    (0..count).map(|_| all.admit([192, 0, 2, 1].into(), false).unwrap()).collect()
}

fn to(place: &ConnectionSlot, caller: u64, http2: bool) -> Recipient {
    Recipient { caller, connection: Arc::clone(&place.connection), http2 }
}

fn outgoing(
    bytes: Bytes,
    place: &ConnectionSlot,
    http2: bool,
    budget: &Arc<SendBudget>,
) -> OutgoingBody {
    let held = RequestGuards { permit: None, active: place.connection.begin(http2), stream: None };
    let body = HttpBody::new(Full::new(bytes));
    OutgoingBody::new(body, None, to(place, 1, http2), Arc::clone(budget), held)
}

/// The next piece, where it is there.
fn next(body: &mut OutgoingBody) -> Option<Option<Piece>> {
    let frame = body.frame().now_or_never()?;
    Some(frame.map(|frame| frame.unwrap().into_data().ok().unwrap()))
}

/// An answer that waits: its caller, its connection, its bytes.
type Waiting = (u64, usize, usize, SendReservation);
type Fits<'a> = &'a dyn Fn(&Waiting) -> bool;

proptest! {
    /// Whatever its size, an answer is handed over as it is; a large one in pieces, and counted
    /// until the last slice of it is gone.
    #[test]
    fn an_answer_arrives_as_it_is(
        size in prop_oneof![0_usize..3_000, 16_000_usize..17_000, 17_000_usize..900_000],
        http2 in any::<bool>(),
    ) {
        let (budget, _) = budget(ROOMY);
        let places = places(1);
        let whole: Bytes = (0..size).map(|at| (at % 251) as u8).collect();
        let mut body = outgoing(whole.clone(), &places[0], http2, &budget);
        let counted = budget::COUNTED_MIN < size;
        let mut pieces = Vec::new();
        while let Some(Some(piece)) = next(&mut body) {
            prop_assert!(!counted || piece.remaining() <= PIECE_MAX);
            prop_assert_eq!(budget.bytes(), if counted { size } else { 0 });
            pieces.push(piece);
            let left = size - pieces.iter().map(Piece::remaining).sum::<usize>();
            prop_assert_eq!(body.size_hint().exact(), Some(left as u64));
        }
        let bytes: Vec<_> = pieces.iter().map(Piece::chunk).collect();
        prop_assert_eq!(bytes.concat(), whole);
        prop_assert_eq!(pieces.len(), size.div_ceil(PIECE_MAX).max(usize::from(0 < size)));
        if counted && http2 {
            prop_assert!(next(&mut body).is_none(), "the end waits until all is taken");
            prop_assert!(!body.is_end_stream());
            pieces.clear();
            prop_assert!(matches!(next(&mut body), Some(None)));
        }
        prop_assert!(body.is_end_stream());
        drop(body);
        let last = pieces.pop();
        pieces.clear();
        prop_assert_eq!(budget.bytes() != 0, counted && last.is_some());
        drop(last);
        prop_assert_eq!(budget.bytes(), 0);
        prop_assert_eq!(places[0].connection.unsent.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    /// Whatever comes and goes, no bound is exceeded, but by one answer alone of a connection and
    /// of a caller; what is refused would exceed the bound that is named.
    #[test]
    fn bounds_hold(
        steps in prop::collection::vec((any::<bool>(), 0_u64..3, 0_usize..3, 1_usize..200), 1..80),
        connection in 50_usize..200,
        caller in 50_usize..300,
        gate in 50_usize..400,
    ) {
        let (budget, counters) = budget(SendBounds { connection, caller, gate });
        let places = places(3);
        let mut held: Vec<Waiting> = Vec::new();
        let mut refused = 0;
        for (comes, who, at, bytes) in steps {
            if !comes {
                if !held.is_empty() {
                    held.remove(at % held.len());
                }
                continue;
            }
            let sum = |fits: Fits<'_>| {
                held.iter().filter(|one| fits(one)).map(|one| one.2).sum::<usize>()
            };
            let total = sum(&|_| true);
            let its = sum(&|one| one.0 == who);
            let here = sum(&|one| one.1 == at);
            match budget.admit(bytes, &to(&places[at], who, true)) {
                Ok(admission) => {
                    prop_assert!(total + bytes <= gate);
                    prop_assert!(its == 0 || its + bytes <= caller);
                    prop_assert!(here == 0 || here + bytes <= connection);
                    held.push((who, at, bytes, admission));
                }
                Err(exceeded) => {
                    refused += 1;
                    let over = match exceeded {
                        Exceeded::Connection => here != 0 && connection < here + bytes,
                        Exceeded::Caller => its != 0 && caller < its + bytes,
                        Exceeded::Gate => gate < total + bytes,
                    };
                    prop_assert!(over, "{exceeded}");
                }
            }
            prop_assert_eq!(budget.bytes(), held.iter().map(|one| one.2).sum::<usize>());
        }
        prop_assert_eq!(counters.read()["refused_unsent"], refused);
        drop(held);
        prop_assert_eq!(budget.bytes(), 0);
    }
}

/// Each way in which there is too much has its own words, which name the key.
#[test]
fn what_is_exceeded_is_named() {
    let keys = HashMap::from([
        (Exceeded::Connection, "unsent_per_connection_max"),
        (Exceeded::Caller, "unsent_per_caller_max"),
        (Exceeded::Gate, "unsent_bytes_max"),
    ]);
    for (exceeded, key) in keys {
        assert!(exceeded.to_string().contains(key));
    }
}

/// Those that take least make room; one that has just begun does not, and neither does any where
/// all of them would not be enough.
#[tokio::test]
async fn the_slowest_reader_makes_room() {
    let (budget, counters) = budget(SendBounds { gate: 100, ..ROOMY });
    let places = places(4);
    let admit = |at: usize, bytes| budget.admit(bytes, &to(&places[at], at as u64, true)).ok();
    let slow = admit(0, 40).unwrap();
    let quick = admit(1, 40).unwrap();
    assert!(admit(2, 40).is_none(), "both have just begun");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    quick.delivery().took(30);
    slow.delivery().took(1);
    let young = admit(2, 20).unwrap();
    assert!(admit(3, 101).is_none(), "more than there is at all");
    assert!(admit(3, 90).is_none(), "all that had their time are not enough");
    let context = &mut Context::from_waker(std::task::Waker::noop());
    let cut = |admission: &SendReservation| admission.delivery().is_cut(context);
    assert!(!cut(&slow), "and nothing was ended for that");
    let new = admit(3, 40).unwrap();
    let context = &mut Context::from_waker(std::task::Waker::noop());
    let cut = |admission: &SendReservation| admission.delivery().is_cut(context);
    assert_eq!([&slow, &quick, &young, &new].map(cut), [true, false, false, false]);
    assert_eq!(counters.read()["unsent_cut"], 1);
    drop((slow, quick, young));
    assert_eq!(budget.bytes(), 40, "what made room is given back once");
}
