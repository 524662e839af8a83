//! Finds the processes that a process has started, directly or not, whatever group or session they
//! are in.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use rustix::process::Pid;

/// A process, as `/proc/PID/stat` (`proc_pid_stat(5)`) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub id: i32,
    pub parent: i32,
    pub group: i32,
}

impl Entry {
    /// Reads the text of `/proc/PID/stat`; none if it is not understood.
    pub fn read(stat: &str) -> Option<Self> {
        let id = stat.split_ascii_whitespace().next()?.parse().ok()?;
        // A program's name is in parentheses, and may have any of its own. After it: state, parent,
        // group.
        let (_, after) = stat.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace().skip(1).map(str::parse);
        Some(Self { id, parent: fields.next()?.ok()?, group: fields.next()?.ok()? })
    }
}

/// All processes of the machine that this one may see; none where there is no `/proc`.
pub fn processes() -> Vec<Entry> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = folders.filter(|entry| {
        entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    });
    let stats = numbered.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| Entry::read(&stat)).collect()
}

/// The descendants of `ancestor`, without itself. What is started meanwhile may be missing.
pub fn of(ancestor: Pid, processes: &[Entry]) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in processes {
        children.entry(entry.parent).or_default().push(entry.id);
    }
    let mut found = HashSet::new();
    let mut next = vec![ancestor.as_raw_pid()];
    while let Some(parent) = next.pop() {
        // A number that was given away while the list was read may close a circle.
        let own = children.get(&parent).into_iter().flatten();
        next.extend(own.filter(|child| found.insert(**child)));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::process::{getpgrp, getpid, getppid};

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_program_is_called() {
        for name in ["sh", "a b", "a) S 1 9 (", ")", "", "é"] {
            let stat = format!("7 ({name}) S 1 42 3 4 5");
            assert_eq!(Entry::read(&stat), Some(Entry { id: 7, parent: 1, group: 42 }), "{name}");
        }
        for broken in ["", "7", "7 (sh", "7 (sh)", "7 (sh) S", "7 (sh) S 1", "7 (sh) S 1 x", ")"] {
            assert_eq!(Entry::read(broken), None, "{broken}");
        }
        let own = processes().into_iter().find(|entry| entry.id == getpid().as_raw_pid()).unwrap();
        let parent = getppid().map_or(0, Pid::as_raw_pid);
        assert_eq!((own.parent, own.group), (parent, getpgrp().as_raw_pid()));
    }

    proptest! {
        /// A table in which each has any parent, also itself or one of its own descendants.
        #[test]
        fn descendants_are_those_with_a_way_up(parents in prop::collection::vec(1..20_i32, 1..20)) {
            let table: Vec<_> = (1..).zip(&parents)
                .map(|(id, parent)| Entry { id, parent: *parent, group: 1 })
                .collect();
            let parent = |id: i32| table.iter().find(|entry| entry.id == id).map(|it| it.parent);
            for ancestor in 1..20 {
                let found = of(Pid::from_raw(ancestor).unwrap(), &table);
                for entry in &table {
                    let way = std::iter::successors(parent(entry.id), |id| parent(*id));
                    let leads = way.take(20).any(|id| id == ancestor);
                    prop_assert_eq!(found.contains(&entry.id), leads);
                }
            }
        }
    }
}
