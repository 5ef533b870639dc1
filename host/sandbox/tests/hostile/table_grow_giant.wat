;; Asks for 4 G table elements.
;; expect: memory-limit
;; fuel: 10000000000
(module (memory (export "memory") 1) (table $t 0 funcref)
  (func (export "_start")
    (if (i32.ne (table.grow $t (ref.null func) (i32.const -1)) (i32.const -1))
      (then (loop $l (br $l))))
    unreachable))
