;; Bulk work on a table.
;; expect: out-of-fuel
(module (memory (export "memory") 1) (table $t 200000 funcref)
  (func (export "_start") (loop $l
    (table.fill $t (i32.const 0) (ref.func $f) (i32.const 200000))
    (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 199999))
    (br $l)))
  (func $f) (elem declare func $f))
