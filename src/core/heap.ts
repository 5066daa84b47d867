/** Items by number, smallest first; of equal numbers in no particular order. */
export class Heap<T> {
  private readonly keys: number[] = [];
  private readonly items: T[] = [];

  /** The smallest number. */
  get first(): number | undefined {
    return this.keys[0];
  }

  add(key: number, item: T): void {
    let at = this.keys.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.keys[parent]! <= key) break;
      this.put(at, this.keys[parent]!, this.items[parent]!);
      at = parent;
    }
    this.put(at, key, item);
  }

  /** Takes the item with the smallest number away. */
  take(): T | undefined {
    const [first] = this.items;
    const [key, item] = [this.keys.pop(), this.items.pop()];
    if (key === undefined || item === undefined || this.keys.length === 0) return first;
    let at = 0;
    for (let child = 1; child < this.keys.length; child = 2 * at + 1) {
      if (child + 1 < this.keys.length && this.keys[child + 1]! < this.keys[child]!) child += 1;
      if (this.keys[child]! >= key) break;
      this.put(at, this.keys[child]!, this.items[child]!);
      at = child;
    }
    this.put(at, key, item);
    return first;
  }

  private put(at: number, key: number, item: T): void {
    this.keys[at] = key;
    this.items[at] = item;
  }
}
