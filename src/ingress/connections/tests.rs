//! The arithmetic of connections: against a model, however they come, are used, and go.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn connections(connections_max: usize, per_address_max: usize) -> Arc<Connections> {
    let idle = Duration::from_secs(4);
    let write_timeout = Duration::from_secs(8);
    let bounds = ConnectionBounds { connections_max, per_address_max, idle, write_timeout };
    Connections::new(bounds, Arc::default())
}

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

#[test]
fn the_longest_idle_makes_room() {
    let all = connections(2, 2);
    let [first, second] = [1, 2].map(|last| all.admit(address(last), false).unwrap());
    all.sweep();
    drop(first.connection.begin(false));
    let third = all.admit(address(3), false).unwrap();
    assert!(second.connection.is_ending() && !first.connection.is_ending());
    let busy = [&first, &third].map(|place| place.connection.begin(true));
    assert_eq!(all.admit(address(4), false).err(), Some(ConnectionRefusal::Full));
    drop(busy);
    drop(first);
    assert!(all.admit(address(4), false).is_ok());
}

#[test]
fn an_address_has_its_share() {
    let all = connections(10, 2);
    let [idle, busy] = [(); 2].map(|()| all.admit(address(1), false).unwrap());
    let _underway = busy.connection.begin(false);
    let third = all.admit(address(1), false).unwrap();
    assert!(idle.connection.is_ending(), "the idle one of this address makes room");
    let _also = third.connection.begin(false);
    assert_eq!(all.admit(address(1), false).err(), Some(ConnectionRefusal::Address));
    assert!(all.admit(address(2), false).is_ok(), "another address has its own");
    assert!(all.admit(address(1), true).is_ok(), "a proxy stands for many");
}

#[test]
fn a_customer_of_ipv6_is_one_address() {
    let network = |text: &str| network(text.parse().unwrap());
    assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2:ffff::1"));
    assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}

#[test]
fn what_goes_on_for_too_long_without_progress_ends() {
    let all = connections(10, 10);
    let [idle, busy, stalled, trickle, older] =
        [(); 5].map(|()| all.admit(address(1), false).unwrap());
    drop(idle.connection.begin(true));
    let _underway = busy.connection.begin(true);
    drop(older.connection.begin(false));
    stalled.connection.stalled();
    for sweep in 0..12 {
        trickle.connection.progressed();
        trickle.connection.stalled();
        let ended = [&idle, &busy, &stalled, &trickle, &older]
            .map(|place| place.connection.is_ending() || place.connection.is_cut());
        // A sweep a second, and one more for what began within one.
        let want = [5 <= sweep, false, 9 <= sweep, false, false];
        assert_eq!(ended, want, "after {sweep} sweeps");
        all.sweep();
    }
    assert!(stalled.connection.is_cut() && !idle.connection.is_cut());
}

proptest! {
    /// There are never more than the bounds say, none that is in use makes room, and a newcomer is
    /// refused only where all that could make room are in use.
    #[test]
    fn bounds_hold_and_only_idle_ones_make_room(
        steps in prop::collection::vec((0_u8..4, 0_u8..4, any::<prop::sample::Index>()), 1..120),
        connections_max in 1_usize..8,
        per_address_max in 1_usize..5,
    ) {
        let all = connections(connections_max, per_address_max);
        let mut places = BTreeMap::new();
        let mut underway = BTreeMap::new();
        for (number, (step, from, pick)) in steps.into_iter().enumerate() {
            let picked = (!places.is_empty())
                .then(|| *places.keys().nth(pick.index(places.len())).unwrap());
            match (step, picked) {
                (0, _) => {
                    let idle = |place: &&ConnectionSlot| place.connection.idle_since().is_some();
                    let its = Some(address(from));
                    let of = |slot: &&ConnectionSlot| slot.connection.address == its;
                    let mine = places.values().filter(of).count();
                    let mine_idle = places.values().filter(of).filter(idle).count();
                    let all_idle = places.values().filter(idle).count();
                    let since: BTreeMap<_, _> = places
                        .iter()
                        .filter_map(|(at, place)| Some((*at, place.connection.idle_since()?)))
                        .collect();
                    match all.admit(address(from), false) {
                        Ok(place) => {
                            // Whoever makes room is the longest idle of all, or of its address.
                            let is_mine = |at: &usize| places[at].connection.address == its;
                            let oldest = since.values().min();
                            let mine = since.iter().filter(|(at, _)| is_mine(at));
                            let oldest_mine = mine.map(|(_, since)| since).min();
                            for (at, idle) in &since {
                                let went = places[at].connection.is_ending();
                                let is_oldest = Some(idle) == oldest
                                    || is_mine(at) && Some(idle) == oldest_mine;
                                prop_assert!(!went || is_oldest, "{since:?}: {at} went");
                            }
                            places.insert(number, place);
                        }
                        Err(ConnectionRefusal::Address) => {
                            prop_assert!(per_address_max <= mine && mine_idle == 0);
                        }
                        Err(ConnectionRefusal::Full) => {
                            prop_assert!(connections_max <= places.len() && all_idle == 0);
                        }
                    }
                }
                (1, Some(one)) => {
                    underway.insert(one, places[&one].connection.begin(from % 2 == 0));
                }
                (2, Some(one)) => drop(underway.remove(&one)),
                (3, Some(one)) => {
                    underway.remove(&one);
                    places.remove(&one);
                }
                _ => all.sweep(),
            }
            // Those that were told to make room go.
            let gone: Vec<_> = places
                .iter()
                .filter(|(_, place)| place.connection.is_ending())
                .map(|(number, _)| *number)
                .collect();
            for one in gone {
                prop_assert!(!underway.contains_key(&one), "one in use made room");
                places.remove(&one);
            }
            prop_assert_eq!(places.len(), all.len());
            prop_assert!(places.len() <= connections_max);
            for last in 0..4 {
                let of = |place: &&ConnectionSlot| place.connection.address == Some(address(last));
                prop_assert!(places.values().filter(of).count() <= per_address_max);
            }
        }
        underway.clear();
        places.clear();
        prop_assert!(all.table.lock().addresses.is_empty());
    }
}
