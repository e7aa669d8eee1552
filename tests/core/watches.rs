//! The watches of one connection of the naive server, and what changes make of them (`semantics.md` 12).

use std::collections::BTreeMap;

use crate::acl::Acl;
use crate::model::parent;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Created,
    Deleted,
    DataChanged,
}

/// One change of one znode, with the ACLs that decide who hears of it.
#[derive(Clone, Debug)]
pub struct Changed {
    pub change: Change,
    pub path: String,
    pub node_acl: Acl,
    pub parent_acl: Acl,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Data,
    Child,
    Persistent,
    Recursive,
}

/// How a path is watched in one table.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Modes {
    standard: bool,
    persistent: bool,
    recursive: bool,
}

#[derive(Default)]
pub struct Watches {
    data: BTreeMap<String, Modes>,
    child: BTreeMap<String, Modes>,
}

/// One event that a connection is selected for, and whose ACL decides whether it is shown.
pub struct Fired<'a> {
    pub event: i32,
    pub path: String,
    pub acl: &'a Acl,
}

impl Watches {
    pub fn add(&mut self, kind: Kind, path: &str) {
        match kind {
            Kind::Data => self.data.entry(path.to_owned()).or_default().standard = true,
            Kind::Child => self.child.entry(path.to_owned()).or_default().standard = true,
            Kind::Persistent => {
                self.data.entry(path.to_owned()).or_default().persistent = true;
                self.child.entry(path.to_owned()).or_default().persistent = true;
            }
            Kind::Recursive => self.data.entry(path.to_owned()).or_default().recursive = true,
        }
    }

    /// Whether there is a watch of a type of checkWatches; `removes`: not any more.
    pub fn check(&mut self, path: &str, asked: i32, removes: bool) -> bool {
        let (mut data, mut child) = (Modes::default(), Modes::default());
        match asked {
            1 => child.standard = true,
            2 => data.standard = true,
            3 => {
                data = Modes { standard: true, persistent: true, recursive: true };
                child = data;
            }
            4 => (data.persistent, child.persistent) = (true, true),
            _ => data.recursive = true,
        }
        let mut found = false;
        for (table, asked) in [(&mut self.data, data), (&mut self.child, child)] {
            let Some(modes) = table.get_mut(path) else { continue };
            found |= (modes.standard && asked.standard)
                || (modes.persistent && asked.persistent)
                || (modes.recursive && asked.recursive);
            if removes {
                modes.standard &= !asked.standard;
                modes.persistent &= !asked.persistent;
                modes.recursive &= !asked.recursive;
            }
        }
        found
    }

    /// One trigger: whether this connection is selected. Standard watches are used up.
    fn trigger(table: &mut BTreeMap<String, Modes>, path: &str) -> bool {
        let mut selected = false;
        if let Some(modes) = table.get_mut(path) {
            selected = *modes != Modes::default();
            modes.standard = false;
        }
        let mut above = path;
        while !selected && above != "/" {
            above = parent(above).filter(|above| !above.is_empty()).unwrap_or("/");
            selected = table.get(above).is_some_and(|modes| modes.recursive);
        }
        selected
    }

    /// What one change selects this connection for, in order.
    pub fn fire<'a>(&mut self, changed: &'a Changed, fired: &mut Vec<Fired<'a>>) {
        let path = &changed.path;
        let (event, selected) = match changed.change {
            Change::Created => (1, Watches::trigger(&mut self.data, path)),
            Change::DataChanged => (3, Watches::trigger(&mut self.data, path)),
            Change::Deleted => {
                let data = Watches::trigger(&mut self.data, path);
                let child = Watches::trigger(&mut self.child, path);
                (2, data || child)
            }
        };
        if selected {
            fired.push(Fired { event, path: path.clone(), acl: &changed.node_acl });
        }
        if changed.change != Change::DataChanged
            && let Some(above) = parent(path)
        {
            let above = if above.is_empty() { "/" } else { above };
            if Watches::trigger(&mut self.child, above) {
                fired.push(Fired { event: 4, path: above.to_owned(), acl: &changed.parent_acl });
            }
        }
    }
}
