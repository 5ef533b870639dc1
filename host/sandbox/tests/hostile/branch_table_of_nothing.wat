;; Branches by an index far outside its table.
;; expect: ok
(module (memory (export "memory") 1)
  (func (export "_start")
    (block $a (block $b (br_table $a $b $a (i32.const -1))) unreachable)))
