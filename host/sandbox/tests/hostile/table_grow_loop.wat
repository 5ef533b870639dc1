;; Grows a table for ever.
;; expect: out-of-fuel
(module (memory (export "memory") 1) (table $t 0 funcref)
  (func (export "_start")
    (loop $l (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $l))))
