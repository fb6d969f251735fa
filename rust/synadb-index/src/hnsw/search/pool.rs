//! The queue of a search and the set of nodes it has seen.

/// From so many items on that move, it pays to move them in blocks.
const BLOCKS_MIN: usize = 48;
/// Bit of an item that says its node was visited.
const VISITED: u64 = 1;

/// A bounded sorted queue of nodes by distance, with a cursor at the nearest one not visited.
///
/// An item is one number: the order of the distance, the node, the mark. Node numbers are below
/// 2^31.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    items: Vec<u64>,
    capacity: usize,
    cursor: usize,
}

impl Pool {
    pub(crate) fn reset(&mut self, capacity: usize) {
        self.items.clear();
        self.items.reserve(capacity + 1);
        self.capacity = capacity;
        self.cursor = 0;
    }

    /// Makes room for more nodes.
    pub(crate) fn lengthen(&mut self, capacity: usize) {
        self.items.reserve((capacity + 1).saturating_sub(self.items.len()));
        self.capacity = self.capacity.max(capacity);
    }

    /// Distance at which a node is refused: infinite while there is room.
    pub(crate) fn limit(&self) -> f32 {
        if self.items.len() < self.capacity {
            return f32::INFINITY;
        }
        self.items.last().map_or(f32::INFINITY, |&item| distance_of(item))
    }

    /// Adds a node; it may be there already with another distance.
    #[inline]
    pub(crate) fn insert(&mut self, distance: f32, node: u32) {
        let item = item_of(distance, node);
        let place = self.items.partition_point(|&other| other < item);
        if self.items.len() == self.capacity {
            if place == self.capacity {
                return;
            }
            self.items.copy_within(place..self.capacity - 1, place + 1);
            self.items[place] = item;
        } else {
            self.items.insert(place, item);
        }
        self.cursor = self.cursor.min(place);
    }

    /// Adds the nodes of a step at once, in any order; as `insert` does one by one.
    ///
    /// Every node of the queue behind the nearest new one moves once, and not with each of them.
    pub(crate) fn merge(&mut self, fresh: &mut Fresh) {
        let fresh = fresh.sorted();
        let Some(nearest) = fresh.first() else { return };
        let old = self.items.len();
        let first = self.items.partition_point(|item| item < nearest);
        self.items.resize(self.capacity.min(old + fresh.len()), 0);
        if old - first > BLOCKS_MIN {
            self.merge_blocks(old, fresh);
        } else {
            self.merge_items(old, fresh);
        }
        self.cursor = self.cursor.min(first);
    }

    fn merge_items(&mut self, mut left: usize, fresh: &[u64]) {
        let (capacity, items) = (self.capacity, &mut self.items[..]);
        let mut right = fresh.len();
        while right > 0 {
            let last = left + right - 1;
            let old = left.checked_sub(1).map_or(0, |index| items[index]);
            let new = fresh[right - 1];
            let item = old.max(new);
            if old > new {
                left -= 1
            } else {
                right -= 1
            }
            if last < capacity {
                items[last] = item;
            }
        }
    }

    fn merge_blocks(&mut self, mut left: usize, fresh: &[u64]) {
        for (right, &new) in fresh.iter().enumerate().rev() {
            let place = self.items[..left].partition_point(|&item| item < new);
            let to = place + right + 1;
            let end = left.min(self.items.len().saturating_sub(right + 1));
            if place < end {
                self.items.copy_within(place..end, to);
            }
            if let Some(item) = self.items.get_mut(to - 1) {
                *item = new;
            }
            left = place;
        }
    }

    /// Takes the nearest node that was not visited, with its distance, and marks it.
    pub(crate) fn pop(&mut self) -> Option<(f32, u32)> {
        let item = self.items.get_mut(self.cursor)?;
        *item |= VISITED;
        let found = (distance_of(*item), node_of(*item));
        self.skip();
        Some(found)
    }

    /// The nodes of the queue.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u32> {
        self.items.iter().map(|&item| node_of(item))
    }

    fn skip(&mut self) {
        while self.items.get(self.cursor).is_some_and(|item| item & VISITED != 0) {
            self.cursor += 1;
        }
    }
}

/// Nodes that a step has found, for the queue.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    items: Vec<u64>,
}

impl Fresh {
    /// Notes a node.
    #[inline]
    pub(crate) fn push(&mut self, distance: f32, node: u32) {
        self.items.push(item_of(distance, node));
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// They are few: insertion sort.
    fn sorted(&mut self) -> &[u64] {
        for index in 1..self.items.len() {
            let item = self.items[index];
            let mut place = index;
            while place > 0 && self.items[place - 1] > item {
                self.items[place] = self.items[place - 1];
                place -= 1;
            }
            self.items[place] = item;
        }
        &self.items
    }
}

fn item_of(distance: f32, node: u32) -> u64 {
    u64::from(order_of(distance)) << 32 | u64::from(node) << 1
}

/// Bits in the order of the numbers, negative ones included.
fn order_of(distance: f32) -> u32 {
    let bits = distance.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn distance_of(item: u64) -> f32 {
    let order = (item >> 32) as u32;
    f32::from_bits(if order >> 31 == 1 { order & !(1 << 31) } else { !order })
}

fn node_of(item: u64) -> u32 {
    (item as u32) >> 1
}

/// A set of nodes that is emptied by undoing what was added: a bit each, so that it stays in the
/// caches while the blocks of the graph pass through them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    words: Vec<u64>,
    /// Words that are not zero.
    used: Vec<u32>,
}

impl Seen {
    pub(crate) fn reset(&mut self, nodes: usize) {
        for word in self.used.drain(..) {
            self.words[word as usize] = 0;
        }
        let words = nodes.div_ceil(u64::BITS as usize);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// Adds a node; true when it is new.
    #[inline]
    pub(crate) fn insert(&mut self, node: u32) -> bool {
        let (index, bit) = (node / u64::BITS, 1 << (node % u64::BITS));
        let word = &mut self.words[index as usize];
        if *word == 0 {
            self.used.push(index);
        }
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    #[inline]
    pub(crate) fn contains(&self, node: u32) -> bool {
        self.words[(node / u64::BITS) as usize] >> (node % u64::BITS) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_nodes_come_in_order() {
        let mut pool = Pool::default();
        pool.reset(5);
        for (node, distance) in [3.0, -1.0, 0.5, -2.0, 7.0, 0.0, 9.0].into_iter().enumerate() {
            pool.insert(distance, node as u32);
        }
        assert_eq!(pool.limit(), 3.0);
        assert_eq!(pool.pop(), Some((-2.0, 3)));
        assert_eq!(pool.pop(), Some((-1.0, 1)));
        // A nearer node moves the cursor back, and visited ones are skipped.
        pool.insert(-1.5, 9);
        assert_eq!(pool.pop(), Some((-1.5, 9)));
        assert_eq!(pool.pop(), Some((0.0, 5)));
        assert_eq!(pool.pop(), Some((0.5, 2)));
        assert_eq!(pool.pop(), None);
    }

    #[test]
    fn a_short_queue_that_is_lengthened_keeps_the_nearest() {
        let mut pool = Pool::default();
        pool.reset(2);
        (0..5).rev().for_each(|node| pool.insert(node as f32, node));
        pool.lengthen(4);
        assert_eq!(pool.limit(), f32::INFINITY);
        pool.insert(9.0, 9);
        assert_eq!(pool.nodes().collect::<Vec<_>>(), [0, 1, 9]);
    }

    #[test]
    fn what_is_added_at_once_is_as_if_added_one_by_one() {
        let mut random = crate::random::Random::new(3);
        for capacity in [1, 2, 7, 40, 300] {
            let (mut one, mut all) = (Pool::default(), Pool::default());
            one.reset(capacity);
            all.reset(capacity);
            let mut fresh = Fresh::default();
            for step in 0..600_u32 {
                fresh.clear();
                for number in 0..random.next() % 9 {
                    // Equal distances too, and equal items.
                    let distance = (random.next() % 50) as f32 - 20.0;
                    let node = (step + number as u32) % 600;
                    fresh.push(distance, node);
                    one.insert(distance, node);
                }
                all.merge(&mut fresh);
                assert_eq!(one.items, all.items, "capacity {capacity}, step {step}");
                assert_eq!(one.limit(), all.limit());
                assert_eq!(one.pop(), all.pop());
            }
        }
    }

    #[test]
    fn a_set_is_emptied_by_every_reset() {
        let mut seen = Seen::default();
        for round in 0..1000 {
            seen.reset(200);
            let (one, other) = (round * 7 % 200, (round * 7 + 63) % 200);
            assert!(seen.insert(one) && !seen.insert(one) && seen.insert(other));
            let found: Vec<u32> = (0..200).filter(|&node| seen.contains(node)).collect();
            assert_eq!(found, [one.min(other), one.max(other)]);
        }
    }
}
