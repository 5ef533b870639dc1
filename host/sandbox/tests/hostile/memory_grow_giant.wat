;; Asks for all that a memory can ever have, and more.
;; expect: memory-limit
;; fuel: 1000000000000
(module (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then (loop $l (br $l))))
    (if (i32.ne (memory.grow (i32.const 65536)) (i32.const -1)) (then (loop $l (br $l))))
    (if (i32.ne (memory.grow (i32.const -1)) (i32.const -1)) (then (loop $l (br $l))))
    unreachable))
