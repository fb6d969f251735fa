//! The queue of a search and the set of nodes it has seen.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::SimdLevel;

/// Items of a block: as many as fit into a register.
const LANES: usize = 8;
/// From so many items on that move, it pays to move them in blocks.
const BLOCKS_MIN: usize = 48;
/// From so many blocks on that are to be looked at, moving what lies between new items takes less.
const KERNEL_BLOCKS_MAX: usize = 32;
/// Blocks of a queue that is inserted into as a whole.
const WHOLE: usize = 8;
/// Bit of an item that says its node was visited.
const VISITED: u64 = 1;
/// A place without an item, behind all items.
const EMPTY: u64 = u64::MAX;

/// Items side by side.
type Block = [u64; LANES];

/// Puts items into a sorted queue, in any order; what it has no room for, the largest of all, takes
/// their place.
pub(crate) type InsertKernel = fn(&mut [Block], &mut [u64]);

/// The kernel of a level, where it has one.
pub(crate) fn insert_kernel(level: SimdLevel) -> Option<InsertKernel> {
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 if level.is_supported() => Some(avx512::insert),
        _ => None,
    }
}

/// A bounded sorted queue of nodes by distance, with a cursor at the nearest one not visited.
///
/// An item is one number: the order of the distance, the node, the mark. Node numbers are below
/// 2^31.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// The items, in order, and [`EMPTY`] behind them.
    blocks: Vec<Block>,
    len: usize,
    capacity: usize,
    cursor: usize,
}

impl Pool {
    pub(crate) fn reset(&mut self, capacity: usize) {
        self.blocks.clear();
        (self.len, self.capacity, self.cursor) = (0, 0, 0);
        self.lengthen(capacity);
    }

    /// Makes room for more nodes.
    pub(crate) fn lengthen(&mut self, capacity: usize) {
        self.capacity = self.capacity.max(capacity);
        self.blocks.resize(self.capacity.div_ceil(LANES), [EMPTY; LANES]);
    }

    fn items(&self) -> &[u64] {
        &self.blocks.as_flattened()[..self.len]
    }

    /// Distance at which a node is refused: infinite while there is room.
    pub(crate) fn limit(&self) -> f32 {
        if self.len < self.capacity {
            return f32::INFINITY;
        }
        self.items().last().map_or(f32::INFINITY, |&item| distance_of(item))
    }

    /// Adds a node; it may be there already with another distance.
    #[inline]
    pub(crate) fn insert(&mut self, distance: f32, node: u32) {
        let item = item_of(distance, node);
        let place = self.items().partition_point(|&other| other < item);
        if place == self.capacity {
            return;
        }
        self.len = (self.len + 1).min(self.capacity);
        let items = &mut self.blocks.as_flattened_mut()[place..self.len];
        items.copy_within(..items.len() - 1, 1);
        items[0] = item;
        self.cursor = self.cursor.min(place);
    }

    /// Adds the nodes of a step at once, in any order; as `insert` does one by one.
    ///
    /// Every node of the queue behind the nearest new one moves once, and not with each of them.
    pub(crate) fn merge(&mut self, fresh: &mut Fresh, kernel: Option<InsertKernel>) {
        let Some(nearest) = fresh.items.iter().min() else { return };
        let old = self.len;
        let first = self.items().partition_point(|item| item < nearest);
        self.len = self.capacity.min(old + fresh.items.len());
        let used = self.len.div_ceil(LANES);
        // A short queue as a whole: always the same work is what the processor foresees.
        let start = if used <= WHOLE { 0 } else { first / LANES };
        match kernel.filter(|_| used - start <= KERNEL_BLOCKS_MAX) {
            Some(insert) => {
                insert(&mut self.blocks[start..used], &mut fresh.items);
                self.blocks.as_flattened_mut()[self.len..used * LANES].fill(EMPTY);
            }
            None => {
                fresh.sort(kernel);
                if old - first > BLOCKS_MIN {
                    self.merge_blocks(old, fresh);
                } else {
                    self.merge_items(old, &fresh.items);
                }
            }
        }
        self.cursor = self.cursor.min(first);
    }

    fn merge_items(&mut self, mut left: usize, fresh: &[u64]) {
        let items = &mut self.blocks.as_flattened_mut()[..self.len];
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
            if let Some(place) = items.get_mut(last) {
                *place = item;
            }
        }
    }

    fn merge_blocks(&mut self, mut left: usize, fresh: &mut Fresh) {
        let items = &mut self.blocks.as_flattened_mut()[..self.len];
        // All of them before anything moves: the processor looks for several at once.
        let place_of = |new: &u64| items[..left].partition_point(|item| item < new);
        fresh.places.clear();
        fresh.places.extend(fresh.items.iter().map(place_of));
        let found = fresh.items.iter().zip(&fresh.places);
        for (right, (&new, &place)) in found.enumerate().rev() {
            let to = place + right + 1;
            let end = left.min(items.len().saturating_sub(right + 1));
            if place < end {
                items.copy_within(place..end, to);
            }
            if let Some(item) = items.get_mut(to - 1) {
                *item = new;
            }
            left = place;
        }
    }

    /// Takes the nearest node that was not visited, with its distance, and marks it.
    pub(crate) fn pop(&mut self) -> Option<(f32, u32)> {
        let items = &mut self.blocks.as_flattened_mut()[..self.len];
        let item = *items.get(self.cursor)?;
        // Its equals with it: with the mark it is larger than they are, and the queue is sorted.
        while let Some(next) = items.get_mut(self.cursor)
            && (*next == item || *next & VISITED != 0)
        {
            *next |= VISITED;
            self.cursor += 1;
        }
        Some((distance_of(item), node_of(item)))
    }

    /// The nodes of the queue.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u32> {
        self.items().iter().map(|&item| node_of(item))
    }
}

/// Nodes that a step has found, for the queue.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fresh {
    items: Vec<u64>,
    /// Where they go in the queue.
    places: Vec<usize>,
    sorted: Vec<Block>,
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
    fn sort(&mut self, kernel: Option<InsertKernel>) {
        if let Some(insert) = kernel {
            self.sorted.clear();
            self.sorted.resize(self.items.len().div_ceil(LANES), [EMPTY; LANES]);
            insert(&mut self.sorted, &mut self.items);
            let count = self.items.len();
            self.items.copy_from_slice(&self.sorted.as_flattened()[..count]);
            return;
        }
        for index in 1..self.items.len() {
            let item = self.items[index];
            let mut place = index;
            while place > 0 && self.items[place - 1] > item {
                self.items[place] = self.items[place - 1];
                place -= 1;
            }
            self.items[place] = item;
        }
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
        let kernels = SimdLevel::ALL.map(insert_kernel);
        for (capacity, most) in
            [1, 2, 7, 8, 9, 40, 64, 65, 100, 128, 300].into_iter().flat_map(|c| [(c, 9), (c, 70)])
        {
            let (mut one, mut all) =
                (Pool::default(), kernels.map(|kernel| (Pool::default(), kernel)));
            one.reset(capacity);
            all.iter_mut().for_each(|(pool, _)| pool.reset(capacity));
            let mut fresh = Fresh::default();
            for step in 0..600_u32 {
                fresh.clear();
                for number in 0..random.next() % most {
                    // Equal distances too, and equal items.
                    let distance = (random.next() % 50) as f32 - 20.0;
                    let node = (step + number as u32) % 600;
                    fresh.push(distance, node);
                    one.insert(distance, node);
                }
                let taken = one.pop();
                for (pool, kernel) in &mut all {
                    pool.merge(&mut fresh.clone(), *kernel);
                    assert_eq!(pool.pop(), taken, "capacity {capacity}, step {step}");
                    assert_eq!((pool.items(), pool.limit()), (one.items(), one.limit()));
                    let mut behind = pool.blocks.as_flattened()[pool.len..].iter();
                    assert!(behind.all(|&item| item == EMPTY), "nothing lies behind the items");
                }
            }
            // It holds no more than it may, also where it is made longer.
            for (pool, kernel) in &mut all {
                pool.lengthen(capacity + 3);
                fresh.clear();
                (0..9).for_each(|node| fresh.push(1e9, node));
                pool.merge(&mut fresh, *kernel);
                assert_eq!(pool.items().len(), capacity + 3);
                assert!(pool.items()[capacity..].iter().all(|&item| distance_of(item) == 1e9));
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
